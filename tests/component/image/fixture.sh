#!/bin/sh
# fixture.sh up DIR | down DIR: images made with umoci, a docker-registry on loopback with TLS under a CA of its own and
# htpasswd (user berth, password secret), and DIR/env with what the test needs to know.
set -eu
dir=$2

free_port() {
	/usr/bin/python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

make_certificates() {
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj "/CN=test CA" \
		-keyout "$dir/ca.key" -out "$dir/ca.pem" 2> /dev/null
	openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=registry" \
		-keyout "$dir/tls.key" -out "$dir/tls.csr" 2> /dev/null
	printf 'subjectAltName=IP:127.0.0.1,DNS:localhost\n' > "$dir/san"
	openssl x509 -req -in "$dir/tls.csr" -CA "$dir/ca.pem" -CAkey "$dir/ca.key" -CAcreateserial -days 30 \
		-extfile "$dir/san" -out "$dir/tls.pem" 2> /dev/null
}

make_image() {
	umoci init --layout "$dir/layout"
	umoci new --image "$dir/layout:v1"
	umoci unpack --image "$dir/layout:v1" "$dir/bundle" > /dev/null 2>&1
	root=$dir/bundle/rootfs
	mkdir -p "$root/usr/bin" "$root/etc" "$root/srv/old"
	ln -s usr/bin "$root/bin"
	cp /bin/busybox "$root/usr/bin/busybox"
	ln "$root/usr/bin/busybox" "$root/usr/bin/httpd"
	cp /bin/busybox "$root/usr/bin/elevate"
	chmod 4755 "$root/usr/bin/elevate"
	ln -s busybox "$root/usr/bin/sh"
	printf 'root:x:0:0::/:/bin/sh\nweb:x:1000:1001::/srv:/bin/sh\n' > "$root/etc/passwd"
	printf 'root:x:0:\nweb:x:1001:\nextra:x:2000:web\n' > "$root/etc/group"
	echo one > "$root/srv/one"
	echo old > "$root/srv/old/file"
	echo "umlaut" > "$root/srv/ä"
	chown 1000:1001 "$root/srv/one"
	umoci repack --image "$dir/layout:v1" "$dir/bundle" > /dev/null 2>&1
	rm -r "$root/srv/old"
	echo two > "$root/srv/two"
	umoci repack --refresh-bundle --image "$dir/layout:v1" "$dir/bundle" > /dev/null 2>&1
	umoci config --image "$dir/layout:v1" --config.entrypoint /bin/httpd --config.cmd -f --config.cmd -p8080 \
		--config.env A=1 --config.user web --config.workingdir /srv --config.exposedports 8080/tcp \
		--config.exposedports 53/udp --config.stopsignal SIGINT
	rm -r "$dir/bundle"
	skopeo copy -q "oci:$dir/layout:v1" "oci-archive:$dir/oci.tar:v1"
	skopeo copy -q "oci:$dir/layout:v1" "docker-archive:$dir/docker.tar:berth/test:v1"
	gzip -k "$dir/docker.tar"
}

start_registry() {
	port=$(free_port)
	mkdir -p "$dir/registry"
	htpasswd -Bbn berth secret > "$dir/htpasswd" 2> /dev/null
	cat > "$dir/registry.yml" <<- END
		version: 0.1
		log: {level: error}
		storage: {filesystem: {rootdirectory: $dir/registry}}
		auth: {htpasswd: {realm: test, path: $dir/htpasswd}}
		http:
		  addr: 127.0.0.1:$port
		  tls: {certificate: $dir/tls.pem, key: $dir/tls.key}
	END
	docker-registry serve "$dir/registry.yml" > "$dir/registry.log" 2>&1 &
	echo $! > "$dir/registry.pid"
	for _ in $(seq 100); do
		curl -s --cacert "$dir/ca.pem" -o /dev/null "https://127.0.0.1:$port/v2/" && break
		sleep 0.1
	done
}

to_registry() {
	skopeo copy -q --dest-cert-dir "$dir/certs" --dest-creds berth:secret "$@"
}

put_index() {
	digest=$(skopeo inspect --raw "oci:$dir/layout:v1" | sha256sum | cut -d' ' -f1)
	size=$(skopeo inspect --raw "oci:$dir/layout:v1" | wc -c)
	arch=$(/usr/bin/python3 -c 'import platform; print({"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()])')
	printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[
{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:%s","size":%d,"platform":{"os":"linux","architecture":"%s"}}]}' \
		"$digest" "$size" "$arch" > "$dir/index.json"
	curl -sf --cacert "$dir/ca.pem" -u berth:secret -X PUT --data-binary "@$dir/index.json" \
		-H 'Content-Type: application/vnd.oci.image.index.v1+json' "https://127.0.0.1:$port/v2/test/manifests/index"
	echo "manifest=sha256:$digest" > "$dir/env"
	echo "index=sha256:$(sha256sum < "$dir/index.json" | cut -d' ' -f1)" >> "$dir/env"
	echo "port=$port" >> "$dir/env"
}

# A layer of this repository has other bytes than its name says.
spoil() {
	to_registry "oci:$dir/spoiled:v1" "docker://127.0.0.1:$port/spoiled:v1"
	layer=$(skopeo inspect --raw "oci:$dir/spoiled:v1" | /usr/bin/python3 -c 'import json,sys; print(json.load(sys.stdin)["layers"][0]["digest"][7:])')
	file=$dir/registry/docker/registry/v2/blobs/sha256/$(echo "$layer" | cut -c1-2)/$layer/data
	/usr/bin/python3 -c 'import sys; f = open(sys.argv[1], "r+b"); f.seek(20); f.write(b"X")' "$file"
}

up() {
	mkdir -p "$dir/certs"
	make_certificates
	cp "$dir/ca.pem" "$dir/certs/ca.crt"
	make_image
	mkdir -p "$dir/more"
	echo other > "$dir/more/file"
	umoci init --layout "$dir/spoiled"
	umoci new --image "$dir/spoiled:v1"
	umoci insert --image "$dir/spoiled:v1" "$dir/more" /more
	start_registry
	to_registry "oci:$dir/layout:v1" "docker://127.0.0.1:$port/test:v1"
	to_registry --format v2s2 "oci:$dir/layout:v1" "docker://127.0.0.1:$port/test:docker"
	spoil
	put_index
}

case $1 in
up) up ;;
down)
	if [ -f "$dir/registry.pid" ]; then kill "$(cat "$dir/registry.pid")" 2> /dev/null || true; fi
	rm -rf "$dir"
	;;
esac
