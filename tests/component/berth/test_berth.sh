#!/usr/bin/env bash
# The command line tool against the management API (serve.c): what is asked, shown and answered as exit code.
#   test_berth.sh BERTH SERVER DATA
set -u
berth=$1 server=$2 data=$3
dir=/tmp/berth-test.$$
mkdir -p "$dir/n1/run/admin"
mkfifo "$dir/stop"
"$server" "$dir/n1/run/admin/socket" <"$dir/stop" &
pid=$!
exec 9>"$dir/stop"
trap 'exec 9>&-; wait $pid; rm -rf "$dir"' EXIT
for _ in $(seq 100); do [ -S "$dir/n1/run/admin/socket" ] && break; sleep 0.1; done
unset BERTH_ENDPOINTS BERTH_TOKEN BERTH_SOCKET BERTH_CA BERTH_SUBSCRIPTION
export BERTH_DIR=$dir BERTH_RESOURCE_GROUP=rg
checks=0 failed=0

# run CODE PATTERN ARGS...: exit code and a pattern in what is printed.
run() {
	local code=$1 pattern=$2 out got
	shift 2
	out=$("$berth" "$@" 2>&1)
	got=$?
	checks=$((checks + 1))
	if [ $got != "$code" ] || ! grep -qE -- "$pattern" <<<"$out"; then
		echo "FAILED: berth $*: exit $got (wanted $code), wanted /$pattern/ in:"
		echo "$out"
		failed=1
	fi
}

run 0 '"provisioningState": "Succeeded"' pool create --name my-session-pool --image registry.example/app:1.0 --cpu 0.25 \
	--memory 0.5Gi --target-port 80 --cooldown-period 300 --network-status EgressDisabled --max-sessions 10 \
	--ready-sessions 5 --env-vars key1=value1 key2=secretref:token --secrets token=swordfish \
	--registry-server registry.example --registry-username me --registry-password pw --command /bin/sh \
	--args -c 'echo hello' --location local --container-type CustomContainer
run 0 'registryexample-me' pool show --name my-session-pool
run 0 'secretRef' pool show --name my-session-pool --output json
run 0 'ready/target +0/5' pool show -n my-session-pool --output table
run 0 'my-session-pool	Succeeded	registry.example/app:1.0	10	5' pool list --output tsv
run 0 'isolation +container' pool show --name my-session-pool --output table
run 0 '"berth.isolation": "vm"' pool create --name machines --image a:1 --target-port 80 --isolation vm --output json
run 0 'isolation +vm' pool show --name machines --output table
run 0 'machines.*	vm$' pool list --output tsv
run 0 'http.*	container$' pool list --output tsv
run 1 'berth.isolation: .*cannot change' pool update --name machines --isolation container
run 0 '"berth.isolation": "vm"' pool update --name machines --max-sessions 7 --isolation vm
run 1 'must be "vm" or "container"' pool create --name odd --image a:1 --target-port 80 --isolation kvm
run 0 'ISOLATION' session list --name machines --output table
run 0 'n1.*container$' node list --output table
run 0 '"maxConcurrentSessions": 20' pool update --name my-session-pool --max-sessions 20
run 0 'registry.example/app:2.0' pool update --name my-session-pool --image registry.example/app:2.0 --secrets other=x
run 0 'key1' pool show --name my-session-pool --output json
run 1 'targetPort: must be a whole number from 1 to 65535' pool update --name my-session-pool --target-port 99999
run 1 '2 fields are not valid' pool create --name two-wrong --image a:1 --cpu 9 --memory 9Gi --target-port 80
run 1 'the registry refused' pool create --name broken --image missing:1 --target-port 80
run 0 'refused +the registry refused' pool show --name broken --output table
run 0 'myregistry.azurecr.io' pool create --file "$data/document/template-1.json" --name from-file
run 0 '"id"' pool create --name not-waited --image a:1 --target-port 80 --no-wait
run 3 'ResourceNotFound' pool show --name none
run 0 '^$' pool delete --name from-file
run 3 'ResourceNotFound' pool show --name from-file
run 0 '^$' pool delete --name from-file
run 2 'unknown option: --colour' pool create --colour red
run 2 '--name POOL is needed' pool show
run 2 'is not NAME=VALUE' pool create --name abc --env-vars novalue
run 2 'json, table or tsv' pool list --output xml
run 0 'IDENTIFIER' session list --name my-session-pool --output table
run 3 'SessionNotFound' session stop --name my-session-pool --identifier nobody
run 3 'SessionNotFound' session show --name my-session-pool --identifier nobody
run 3 'ResourceNotFound' logs --name none --identifier nobody
run 2 'POOL' logs --identifier nobody
run 0 'n1' node list --output table
run 0 '"cpuMilli": 32000' node show --name n1
run 3 'NodeNotFound' node show --name n9
run 0 'health +ok' cluster status --output table
run 0 '^header.body.signature$' token --audience data
run 0 'expiresAt' token --output json
run 0 'sha256:x' image import --name a:1 "$data/azure-spec/NOTICE"
run 1 'No such file' image import --name a:1 "$dir/none"
run 0 'a:1' image list --output tsv
run 0 '^kind,pool,pool_name' billing export --from -1h --to now --format csv
run 0 '"buckets"' billing export --format json
run 1 'must be a date' billing export --from yesterday
run 5 'node.* answered' node list --socket "$dir/none"
run 5 'node.* answered' node list --endpoint http://127.0.0.1:1,http://127.0.0.1:2
run 0 'berth pool create' pool create --help
run 2 'there is no command' sing
run 6 'the operation goes on' pool create --name slow --image slow:1 --target-port 80 --timeout 0
hosts() { run "$1" "$2" cluster init --dir "$dir/cluster" --nodes 3 --user nobody --host "$3"; }
hosts 1 '"x" is not an IPv4 address' x
hosts 1 'for each of the 3 nodes; not 2' 10.0.0.1,10.0.0.2
hosts 1 '10.0.0.1 is there twice' 10.0.0.1,10.0.0.1,10.0.0.2
hosts 1 'more addresses than nodes' 10.0.0.1,10.0.0.2,10.0.0.3,10.0.0.4
hosts 0 'node3' 10.0.0.1,10.0.0.2,10.0.0.3
run 2 'vm or container, not' cluster init --dir "$dir/other" --nodes 1 --user nobody --isolation kvm
run 0 'warning: containers share the kernel' cluster init --dir "$dir/shared" --nodes 1 --user nobody
run 0 'hostile code' cluster init --dir "$dir/chosen" --nodes 1 --user nobody --isolation container
run 0 '^' cluster init --dir "$dir/vms" --nodes 1 --user nobody --isolation vm
checks=$((checks + 5))
grep -qx 'isolation = vm' "$dir/vms/node1/berth.conf" || failed=1
grep -qx 'isolation = container' "$dir/chosen/node1/berth.conf" || failed=1
grep -q '^isolation' "$dir/shared/node1/berth.conf" && failed=1
# On a terminal it is asked for.
asked() { script -qec "'$berth' cluster init --dir '$dir/$1' --nodes 1 --user nobody" /dev/null <<<"$2" >"$dir/$1.out"; }
asked said vm && grep -q 'vm or container?' "$dir/said.out" && grep -qx 'isolation = vm' "$dir/said/node1/berth.conf" || failed=1
asked silent '' && grep -q 'hostile code' "$dir/silent.out" && ! grep -q '^isolation' "$dir/silent/node1/berth.conf" || failed=1
checks=$((checks + 1))
grep -qx 'member = 2 node2 10.0.0.2:7400 10.0.0.2:7401 10.0.0.2:7402' "$dir/cluster/node1/berth.conf" || failed=1
"$berth" --man | cmp - "$data/../../docs/man/berth.1" || failed=1

echo "$checks checks"
exit $failed
