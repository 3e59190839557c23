// What the npm package etcd3 does, on three nodes of Quorate whose leader is killed meanwhile.
//
//     node client.js ENDPOINTS CLUSTER-DIRECTORY CLUSTER.SH
//
// tests/e2e/js_client.sh starts the cluster and calls it. Every check has keys of its own. Ends with the line
// "N passed, N failed"; the exit code is 0 if nothing failed.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { noop } from 'cockatiel';
import etcd3 from 'etcd3';

const { Etcd3, EtcdLockFailedError } = etcd3;
const PATIENCE_MS = 120_000;
const LEADER_KILLS = 3;
// The package declares its isolations for TypeScript only.
const SERIALIZABLE_SNAPSHOT = 0;

if (process.argv.length !== 5) {
  console.error(`usage: ${process.argv[1]} ENDPOINTS CLUSTER-DIRECTORY CLUSTER.SH`);
  process.exit(2);
}
const [endpoints, directory, script] = process.argv.slice(2);
const hosts = endpoints.split(',').map((endpoint) => `http://${endpoint}`);
const open = [];

function connect(options = {}) {
  const client = new Etcd3({ hosts, ...options });
  open.push(client);
  return client;
}

const cluster = (command) => promisify(execFile)(script, [command, directory]);

// Waits until there is something.
async function until(what, get) {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    const found = await get();
    if (found) return found;
    assert(Date.now() < deadline, `waited in vain: ${what}`);
    await sleep(20);
  }
}

async function killLeader(progress) {
  await progress();
  await cluster('kill-leader');
  await sleep(1000);
  await cluster('restart');
  await progress();
}

async function putGetDelete() {
  const client = connect().namespace('js/basic/');
  await client.put('a').value('1');
  await client.put('b').value(2);
  assert.equal(await client.get('a').string(), '1');
  assert.equal(await client.get('b').number(), 2);
  assert.equal(await client.get('missing').string(), null);
  assert.deepEqual(await client.getAll().strings(), { a: '1', b: '2' });
  assert.deepEqual(await client.getAll().sort('Key', 'Descend').limit(1).keys(), ['b']);
  assert.equal(await client.getAll().count(), 2);
  assert.equal((await client.delete().prefix('')).deleted, '2');
  assert.equal(await client.get('a').exists(), false);
}

async function transactions() {
  const client = connect().namespace('js/txn/');
  const create = () =>
    client
      .if('a', 'Create', '==', 0)
      .then(client.put('a').value('1'))
      .else(client.get('a'))
      .commit();
  assert.equal((await create()).succeeded, true);
  const second = await create();
  assert.equal(second.succeeded, false);
  assert.equal(second.responses[0].response_range.kvs[0].value.toString(), '1');
  await client.put('sum').value(0);
  const add = () =>
    client.stm({ retries: 1000, isolation: SERIALIZABLE_SNAPSHOT }).transact(async (tx) => {
      const sum = await tx.get('sum').number();
      await tx.put('sum').value(sum + 1);
    });
  await Promise.all(Array.from({ length: 10 }, add));
  assert.equal(await client.get('sum').number(), 10);
}

async function watch() {
  const client = connect().namespace('js/watch/');
  const first = await client.put('a').value('1');
  await client.put('a').value('2');
  await client.delete().key('a');
  const seen = [];
  const watcher = await client.watch().prefix('').startRevision(first.header.revision).withPreviousKV().create();
  watcher.on('put', (kv, before) => seen.push(`put ${kv.value} after ${before ? before.value : ''}`));
  watcher.on('delete', (kv, before) => seen.push(`delete after ${before.value}`));
  await client.put('b').value('3');
  await until('four events', () => seen.length >= 4);
  assert.deepEqual(seen, ['put 1 after ', 'put 2 after 1', 'delete after 2', 'put 3 after ']);
  await watcher.cancel();
  await client.put('b').value('4');
  await sleep(300);
  assert.equal(seen.length, 4, 'events of a watch that was canceled');
}

async function leases() {
  const client = connect().namespace('js/lease/');
  const lease = client.lease(2);
  await lease.put('kept').value('1');
  await sleep(4000);
  assert.equal(await client.get('kept').string(), '1');
  await lease.revoke();
  assert.equal(await client.get('kept').string(), null);
  const short = client.lease(1, { autoKeepAlive: false });
  await short.put('short').value('1');
  await until('a lease that ends', async () => !(await client.get('short').exists()));
}

async function locks() {
  const client = connect().namespace('js/lock/');
  const held = await client.lock('a').ttl(10).acquire();
  await assert.rejects(client.lock('a').acquire(), EtcdLockFailedError);
  await held.release();
  assert.equal(await client.lock('a').do(async () => 'done'), 'done');
}

async function elections() {
  const [one, other] = [connect(), connect()];
  const observer = await connect().election('js/election', 10).observe();
  const seen = [];
  observer.on('change', (value) => seen.push(value));
  const first = one.election('js/election', 10).campaign('a');
  await new Promise((resolve, reject) => first.on('elected', resolve).on('error', reject));
  await until('the first leader is observed', () => seen.includes('a'));
  await first.proclaim('a2');
  await until('its proclamation is observed', () => seen.includes('a2'));
  let elected = false;
  const second = other.election('js/election', 10).campaign('b');
  second.on('elected', () => (elected = true));
  await sleep(500);
  assert.equal(elected, false, 'there are two leaders');
  await first.resign();
  await until('the second leads', () => elected);
  await until('the second leader is observed', () => seen.includes('b'));
  assert.deepEqual(seen.filter((value) => value !== undefined), ['a', 'a2', 'b']);
  await second.resign();
  await observer.cancel();
}

async function membersAndMaintenance() {
  const client = connect();
  const { members } = await client.cluster.memberList({});
  assert.deepEqual(members.map((member) => member.name).sort(), ['n1', 'n2', 'n3']);
  const status = await client.maintenance.status();
  assert(members.some((member) => member.ID === status.leader), 'the leader is no member');
  assert.deepEqual((await client.maintenance.alarm({ action: 'Get' })).alarms, []);
}

// The package opens a cut watch again by itself, from the last revision + 1. It also sends a write of unknown outcome
// again, up to three times, which doubles one that was applied: here it must not, so that every double is the server's.
async function watchAcrossChangesOfTheLeader() {
  const client = connect({ faultHandling: { global: noop } }).namespace('js/across/');
  const begin = await client.put('begin').value('');
  const from = Number(begin.header.revision) + 1;
  // One goes from node to node. The others have one each, so that some streams are cut for sure.
  const followers = [hosts, ...hosts.map((host) => [host])].map((own) => {
    const seen = [];
    const started = connect({ hosts: own })
      .namespace('js/across/')
      .watch()
      .prefix('')
      .startRevision(from)
      .watcher();
    const ended = new Promise((resolve, reject) => {
      started.on('put', (kv) => {
        seen.push(`${kv.mod_revision} ${kv.key}=${kv.value}`);
        if (kv.key.toString() === 'end') resolve(seen);
      });
      started.on('error', reject);
    });
    return { ended, started };
  });
  let [acknowledged, unknown, stopping] = [0, 0, false];
  const writing = (async () => {
    for (let number = 0; !stopping; number++) {
      try {
        await client.put(`k${number % 10}`).value(number);
        acknowledged++;
      } catch {
        unknown++;
        await sleep(50);
      }
    }
  })();
  for (let turn = 0; turn < LEADER_KILLS; turn++) {
    const goal = acknowledged + 100;
    await killLeader(() => until('writes go on', () => acknowledged >= goal));
  }
  stopping = true;
  await writing;
  await until('the last write', () => client.put('end').value('end').then(() => true, () => false));
  const [first, ...others] = await Promise.all(followers.map((follower) => follower.ended));
  for (const seen of others) assert.deepEqual(seen, first);
  const revisions = first.map((event) => Number(event.split(' ')[0]));
  assert(revisions.every((revision, place) => place === 0 || revision > revisions[place - 1]), 'out of order');
  const values = first.map((event) => event.split('=')[1]);
  assert.equal(new Set(values).size, values.length, 'a write was applied twice');
  const written = first.length - 1;
  console.log(`  ${acknowledged} writes acknowledged, ${unknown} of unknown outcome, ${written} events`);
  assert(acknowledged <= written && written <= acknowledged + unknown, 'lost or out of nothing');
  for (const { started } of followers) await started.cancel();
}

async function leaseAcrossChangesOfTheLeader() {
  const client = connect().namespace('js/kept/');
  const lease = client.lease(5);
  let lost;
  lease.on('lost', (error) => (lost = error));
  await lease.put('a').value('1');
  for (let turn = 0; turn < LEADER_KILLS; turn++) await killLeader(() => sleep(2000));
  assert.equal(lost, undefined);
  assert.equal(await client.get('a').string(), '1');
  await lease.revoke();
}

// The last: whatever becomes of it, authentication is off at the end.
async function authentication() {
  const client = connect();
  const [root, some] = [client.role('root'), client.role('some')];
  await some.create();
  await some.grant({ permission: 'Readwrite', range: client.range({ prefix: 'js/some/' }) });
  assert.equal((await some.permissions())[0].permission, 'Readwrite');
  await client.user('root').create('rootpw');
  await client.user('root').addRole(root);
  await client.user('bob').create('bobpw');
  await client.user('bob').addRole(some);
  assert.deepEqual((await client.getUsers()).map((user) => user.name).sort(), ['bob', 'root']);
  await client.auth.authEnable();
  const [admin, bob] = ['root', 'bob'].map((name) => connect({ auth: { username: name, password: `${name}pw` } }));
  try {
    await assert.rejects(client.get('js/some/a').string(), /user name is empty/);
    await bob.put('js/some/a').value('1');
    assert.equal(await bob.get('js/some/a').string(), '1');
    await assert.rejects(bob.get('other').string(), /permission denied/);
    const wrong = connect({ auth: { username: 'bob', password: 'guess' } });
    await assert.rejects(wrong.get('js/some/a').string(), /invalid user ID or password/);
    await admin.put('other').value('1');
    await admin.user('bob').removeRole(some);
    await assert.rejects(bob.get('js/some/a').string(), /permission denied/);
  } finally {
    await admin.auth.authDisable();
  }
}

const checks = [
  putGetDelete,
  transactions,
  watch,
  leases,
  locks,
  elections,
  membersAndMaintenance,
  watchAcrossChangesOfTheLeader,
  leaseAcrossChangesOfTheLeader,
  authentication,
];
let passed = 0;
for (const check of checks) {
  const started = Date.now();
  try {
    const late = sleep(PATIENCE_MS, undefined, { ref: false }).then(() => assert.fail('it does not end'));
    await Promise.race([check(), late]);
    passed++;
    console.log(`  ${check.name} (${((Date.now() - started) / 1000).toFixed(1)} s)`);
  } catch (error) {
    console.log(`FAILED ${check.name}: ${error.stack}`);
  }
  for (const client of open.splice(0)) client.close();
}
console.log(`${passed} passed, ${checks.length - passed} failed`);
process.exit(passed === checks.length ? 0 : 1);
