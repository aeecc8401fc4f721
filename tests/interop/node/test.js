// All that npm's etcd3 offers, against the server at process.argv[2]; behind it
// files of an authority, a certificate and its key, for one with TLS.
'use strict';
const assert = require('assert');
const fs = require('fs');
const {Etcd3, EtcdLockFailedError} = require('etcd3');

const [hosts, ca, cert, key] = process.argv.slice(2);
const server = {hosts};
if (ca) {
  server.credentials = {
    rootCertificate: fs.readFileSync(ca),
    certChain: fs.readFileSync(cert),
    privateKey: fs.readFileSync(key),
  };
}
const sleep = ms => new Promise(done => setTimeout(done, ms));

async function until(condition, what) {
  for (let i = 0; i < 400; i++) {
    if (await condition()) return;
    await sleep(20);
  }
  assert.fail(`timed out: ${what}`);
}

const tests = {
  async 'put, get, delete'(c) {
    await c.put('a').value('1');
    assert.strictEqual(await c.get('a').string(), '1');
    assert.strictEqual(await c.get('a').number(), 1);
    await c.put('json').value(JSON.stringify({x: [1]}));
    assert.deepStrictEqual(await c.get('json').json(), {x: [1]});
    const bytes = Buffer.from([0, 255, 1]);
    await c.put('bytes').value(bytes);
    assert.deepStrictEqual(await c.get('bytes').buffer(), bytes);
    assert.strictEqual(await c.get('none').string(), null);
    assert.ok(await c.get('a').exists());
    assert.strictEqual((await c.put('a').value('2').getPrevious()).value.toString(), '1');
    assert.strictEqual((await c.delete().key('a').getPrevious()).length, 1);
    await c.put('touch').value('x');
    await c.put('touch').touch();
    assert.strictEqual(await c.get('touch').string(), 'x');
  },

  async 'ranges'(c) {
    for (let i = 0; i < 12; i++) await c.put(`r/${String.fromCharCode(97 + i)}`).value(i);
    assert.strictEqual(await c.getAll().prefix('r/').count(), 12);
    assert.deepStrictEqual(await c.getAll().prefix('r/').limit(2).keys(), ['r/a', 'r/b']);
    assert.deepStrictEqual(await c.getAll().prefix('r/').sort('Value', 'Descend').limit(1).strings(), {'r/j': '9'});
    assert.strictEqual((await c.getAll().inRange({start: 'r/c', end: 'r/f'}).numbers())['r/d'], 3);
    const past = (await c.get('r/a').exec()).kvs[0].mod_revision;
    assert.strictEqual(await c.getAll().prefix('r/').revision(past).count(), 1);
    await c.delete().inRange({start: 'r/a', end: 'r/c'});
    assert.strictEqual(await c.getAll().prefix('r/').count(), 10);
    await c.delete().prefix('r/');
    assert.strictEqual(await c.getAll().prefix('r/').count(), 0);
  },

  async 'transactions'(c) {
    await c.put('t').value('1');
    const yes = await c.if('t', 'Value', '==', '1').and('nope', 'Create', '==', 0)
      .then(c.put('t').value('2'), c.get('t')).else(c.put('t').value('bad')).commit();
    assert.ok(yes.succeeded);
    assert.strictEqual(yes.responses[1].response_range.kvs[0].value.toString(), '2');
    const no = await c.if('t', 'Version', '>', 100).then(c.delete().key('t')).else(c.get('t')).commit();
    assert.ok(!no.succeeded);
  },

  async 'namespaces'(c) {
    const inner = c.namespace('ns/');
    await inner.put('x').value('inside');
    assert.strictEqual(await c.get('ns/x').string(), 'inside');
    assert.deepStrictEqual(await inner.getAll().strings(), {x: 'inside'});
    await inner.delete().all();
    assert.strictEqual(await c.get('ns/x').string(), null);
  },

  async 'leases'(c) {
    const lease = c.lease(10);
    await lease.put('leased').value('x');
    const id = await lease.grant();
    assert.strictEqual((await c.get('leased').exec()).kvs[0].lease, id);
    await lease.keepaliveOnce();
    const kept = new Promise(done => lease.once('keepaliveSucceeded', done));
    await kept;
    assert.ok((await c.leaseClient.leaseTimeToLive({ID: id, keys: true})).keys.length === 1);
    await lease.revoke();
    assert.strictEqual(await c.get('leased').string(), null);
    const short = c.lease(1, {autoKeepAlive: false});
    await short.put('short').value('x');
    await until(async () => (await c.get('short').string()) === null, 'expiry');
  },

  async 'watches'(c) {
    const seen = [];
    const watcher = await c.watch().prefix('w/').withPreviousKV().create();
    watcher.on('put', (kv, previous) => seen.push(`put ${kv.key} ${kv.value} ${previous ? previous.value : ''}`));
    watcher.on('delete', kv => seen.push(`delete ${kv.key}`));
    await c.put('w/1').value('a');
    await c.put('w/1').value('b');
    await c.delete().key('w/1');
    await until(() => seen.length === 3, 'events');
    assert.deepStrictEqual(seen, ['put w/1 a ', 'put w/1 b a', 'delete w/1']);
    await watcher.cancel();
    const from = (await c.put('w/2').value('x')).header.revision;
    const late = await c.watch().key('w/2').startRevision(from).only('put').create();
    const event = await new Promise(done => late.once('put', done));
    assert.strictEqual(event.value.toString(), 'x');
    const many = [];
    for (let i = 0; i < 50; i++) {
      const w = await c.watch().key(`many/${i}`).create();
      w.on('put', kv => many.push(kv.key.toString()));
    }
    for (let i = 0; i < 50; i++) await c.put(`many/${i}`).value(i);
    await until(() => many.length === 50, 'events of 50 watchers');
  },

  async 'locks'(c) {
    const other = new Etcd3({...server});
    const held = await c.lock('mutex').ttl(5).acquire();
    await assert.rejects(other.lock('mutex').acquire(), EtcdLockFailedError);
    await held.release();
    assert.strictEqual(await other.lock('mutex').do(async () => 'inside'), 'inside');
    other.close();
  },

  async 'elections'(c) {
    const other = new Etcd3({...server});
    const election = c.election('race', 5);
    const campaign = election.campaign('one');
    await new Promise((done, fail) => campaign.on('elected', done).on('error', fail));
    const observer = await other.election('race', 5).observe();
    await until(() => observer.leader() === 'one', 'the leader');
    const second = other.election('race', 5).campaign('two');
    const elected = new Promise(done => second.on('elected', done));
    await campaign.proclaim('still one');
    await until(() => observer.leader() === 'still one', 'what is proclaimed');
    await campaign.resign();
    await elected;
    await until(() => observer.leader() === 'two', 'the next leader');
    await second.resign();
    await observer.cancel();
    other.close();
  },

  async 'software transactional memory'(c) {
    await c.put('stm').value(0);
    await Promise.all(Array.from({length: 8}, () => c.stm({retries: 100}).transact(async tx => {
      const n = await tx.get('stm').number();
      await sleep(5);
      await tx.put('stm').value(n + 1);
    })));
    assert.strictEqual(await c.get('stm').number(), 8);
  },

  async 'cluster and maintenance'(c) {
    const {members} = await c.cluster.memberList({});
    assert.strictEqual(members.length, 1);
    const status = await c.maintenance.status({});
    assert.strictEqual(status.version, '3.4.23');
    assert.strictEqual(status.leader, members[0].ID);
    assert.ok((await c.maintenance.hash({})).hash);
    await c.maintenance.defragment({});
    assert.deepStrictEqual((await c.maintenance.alarm({action: 'Get'})).alarms, []);
    const snapshot = await c.maintenance.snapshot();
    let bytes = 0;
    await new Promise((done, fail) => {
      snapshot.on('data', part => { bytes += part.blob.length; });
      snapshot.on('end', done).on('error', fail);
    });
    assert.ok(bytes > 16384 && (bytes - 32) % 512 === 0);
    const revision = (await c.put('c').value('x')).header.revision;
    await c.kv.compact({revision, physical: true});
    await assert.rejects(c.get('c').revision(1).string(), /compacted/);
  },

  async 'auth'(c) {
    const root = c.user('root');
    await root.create('pw');
    const ann = c.user('ann');
    await ann.create('secret');
    const role = c.role('reader');
    await role.create();
    await role.grant({permission: 'Read', range: c.range({prefix: 'auth/'})});
    assert.strictEqual((await role.permissions()).length, 1);
    await ann.addRole('reader');
    await c.role('root').create().catch(() => null);
    await root.addRole('root');
    await c.put('auth/x').value('seen');
    await c.auth.authEnable();
    const asRoot = new Etcd3({...server, auth: {username: 'root', password: 'pw'}});
    try {
      const asAnn = new Etcd3({...server, auth: {username: 'ann', password: 'secret'}});
      assert.strictEqual(await asAnn.get('auth/x').string(), 'seen');
      await assert.rejects(Promise.resolve(asAnn.put('auth/x').value('no')), /permission denied/);
      await assert.rejects(asAnn.get('other').string(), /permission denied/);
      await assert.rejects(c.get('auth/x').string());
      const wrong = new Etcd3({...server, auth: {username: 'ann', password: 'wrong'}});
      await assert.rejects(wrong.get('auth/x').string());
      asAnn.close();
      wrong.close();
    } finally {
      await asRoot.auth.authDisable();
      asRoot.close();
    }
  },
};

async function main() {
  let passed = 0, failed = 0;
  for (const [name, test] of Object.entries(tests)) {
    const client = new Etcd3({...server, dialTimeout: 5000});
    try {
      await Promise.race([test(client), sleep(20000).then(() => assert.fail('timed out'))]);
      passed++;
    } catch (e) {
      failed++;
      console.log('FAIL:', name, e);
    }
    client.close();
  }
  console.log(`${passed} passed, ${failed} failed`);
  process.exit(failed ? 1 : 0);
}

main();
