// pool.mjs -- Azure's own JavaScript client against a Berth endpoint: creates, gets, lists, updates and deletes a pool.
//
//   NODE_EXTRA_CA_CERTS=ca.pem node pool.mjs --endpoint https://127.0.0.1:7404 --token TOKEN --image berth-sample:1
//
// Needs `npm ci` in this folder once. Prints one line a step; exits 0 when each did what Azure's service does, 1 with the
// first difference, 77 when the packages are not installed. The token is for the management audience.
import assert from 'node:assert/strict';
import { parseArgs } from 'node:util';

let ContainerAppsAPIClient;
try {
	({ ContainerAppsAPIClient } = await import('@azure/arm-appcontainers'));
} catch (error) {
	console.log(`skipped: ${error.message.split('\n')[0]} (run npm ci here)`);
	process.exit(77);
}

const { values: options } = parseArgs({ options: {
	endpoint: { type: 'string' },
	token: { type: 'string', default: process.env.BERTH_TOKEN },
	image: { type: 'string', default: 'berth-sample:1' },
	port: { type: 'string', default: '80' },
	name: { type: 'string', default: 'client-js' },
	group: { type: 'string', default: 'clients' },
	subscription: { type: 'string', default: '00000000-0000-0000-0000-000000000000' },
} });
if (!options.endpoint || !options.token) {
	console.error('usage: pool.mjs --endpoint https://HOST:PORT --token TOKEN [--image REF --port N --name POOL --group GROUP]');
	process.exit(2);
}

const base = options.endpoint.replace(/\/+$/, '');
const credential = { getToken: async () => ({ token: options.token, expiresOnTimestamp: Date.now() + 3.6e6 }) };
const client = new ContainerAppsAPIClient(credential, options.subscription,
	{ endpoint: base, $host: base, credentialScopes: [`${base}/.default`] });
const pools = client.containerAppsSessionPools;
const poll = { updateIntervalInMs: 500 };
const { group, name } = options;

const step = async (title, run) => {
	const began = Date.now();
	const result = await run();
	console.log(`ok ${title} (${Date.now() - began} ms)`);
	return result;
};

const collect = async (pages) => {
	const all = [];
	for await (const item of pages)
		all.push(item.name);
	return all;
};

const resource = {
	location: 'local',
	poolManagementType: 'Dynamic',
	containerType: 'CustomContainer',
	scaleConfiguration: { maxConcurrentSessions: 4, readySessionInstances: 1 },
	dynamicPoolConfiguration: { lifecycleConfiguration: { lifecycleType: 'Timed', cooldownPeriodInSeconds: 300 } },
	secrets: [{ name: 'token', value: 'swordfish' }],
	customContainerTemplate: {
		containers: [{ image: options.image, name: 'main', resources: { cpu: 0.25, memory: '0.5Gi' },
			env: [{ name: 'KEY', value: 'value' }, { name: 'TOKEN', secretRef: 'token' }] }],
		ingress: { targetPort: Number(options.port) },
	},
	sessionNetworkConfiguration: { status: 'EgressDisabled' },
};

try {
	const created = await step('create', () => pools.beginCreateOrUpdateAndWait(group, name, resource, poll));
	assert.equal(created.provisioningState, 'Succeeded');
	assert.equal(created.scaleConfiguration.maxConcurrentSessions, 4);
	assert.match(created.poolManagementEndpoint, /^https?:\/\//);

	const got = await step('get', () => pools.get(group, name));
	assert.equal(got.name, name);
	assert.equal(got.id, `/subscriptions/${options.subscription}/resourceGroups/${group}/providers/Microsoft.App/` +
		`sessionPools/${name}`);
	assert.deepEqual(got.secrets.map((secret) => [secret.name, secret.value]), [['token', undefined]]);
	assert.equal(got.customContainerTemplate.containers[0].env.length, 2);

	assert.ok((await step('list by group', () => collect(pools.listByResourceGroup(group)))).includes(name));
	assert.ok((await step('list by subscription', () => collect(pools.listBySubscription()))).includes(name));

	const updated = await step('update', () => pools.beginUpdateAndWait(group, name,
		{ scaleConfiguration: { maxConcurrentSessions: 6 } }, poll));
	assert.equal(updated.scaleConfiguration.maxConcurrentSessions, 6);
	assert.equal(updated.scaleConfiguration.readySessionInstances, 1);
	assert.equal(updated.customContainerTemplate.containers[0].image, options.image);

	await step('a wrong field is named', () => assert.rejects(
		pools.beginUpdateAndWait(group, name, { scaleConfiguration: { maxConcurrentSessions: 0 } }, poll),
		(error) => error.statusCode === 400 && /maxConcurrentSessions/.test(error.message)));

	await step('delete', () => pools.beginDeleteAndWait(group, name, poll));
	await step('gone', () => assert.rejects(pools.get(group, name),
		(error) => error.statusCode === 404 && error.code === 'ResourceNotFound'));
	await step('delete again', () => pools.beginDeleteAndWait(group, name, poll));
} catch (error) {
	console.error(`not ok: ${error.code ?? ''} ${error.message}`);
	process.exit(1);
}
