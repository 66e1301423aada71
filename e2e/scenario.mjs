// What a person does with a client, step by step.
// Usage: node scenario.mjs CLIENT, driven by clients_test.go. SERVICE is the
// server behind a proxy that can lose an answer, SHORT one whose access tokens
// live for seconds.
import assert from 'node:assert/strict'
import { ask, finish, step } from './harness.mjs'

const client = await import(`./client-${process.argv[2]}.mjs`)
const { SERVICE, SHORT } = process.env
const password = 'correct-horse-battery'

const newAccount = (name) => ({ handle: `${name}.test`, email: `${name}@example.com`, password })
const signUp = (name, service = SERVICE) => client.signUp(service, newAccount(name))
const claims = (token) => JSON.parse(Buffer.from(token.split('.')[1], 'base64url'))
const sessionsOf = (tab) => ask('sessions', tab.stored().did)

// post makes an ordinary call through the client.
async function post(tab, nsid, body) {
  const answer = await tab.fetch(`/xrpc/${nsid}`, {
    method: 'POST',
    headers: body && { 'content-type': 'application/json' },
    body: body && JSON.stringify(body),
  })
  const text = await answer.text()
  return { status: answer.status, ...(text && JSON.parse(text)) }
}

// raw calls with a token and no client around it.
async function raw(method, nsid, token) {
  const answer = await fetch(`${SERVICE}/xrpc/${nsid}`, { method, headers: { authorization: `Bearer ${token}` } })
  return `${answer.status} ${await answer.text()}`
}

// assertDead: neither token of a session that was ended is good for anything.
async function assertDead({ accessJwt, refreshJwt }) {
  assert.equal(
    await raw('GET', 'com.atproto.server.getSession', accessJwt),
    '400 {"error":"ExpiredToken","message":"Token has expired"}',
  )
  assert.equal(
    await raw('POST', 'com.atproto.server.refreshSession', refreshJwt),
    '400 {"error":"ExpiredToken","message":"Token has been revoked"}',
  )
}

// takedown is what a moderator does.
async function takedown(did, applied) {
  const answer = await fetch(`${SERVICE}/xrpc/com.atproto.admin.updateSubjectStatus`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Basic ${btoa('admin:admin')}` },
    body: JSON.stringify({ subject: { $type: 'com.atproto.admin.defs#repoRef', did }, takedown: { applied } }),
  })
  assert.equal(answer.status, 200, await answer.text())
}

await step('sign up', async () => {
  const tab = await signUp('alice')
  const { status, did, handle, email } = await tab.getSession()
  assert.deepEqual({ status, did, handle, email }, {
    status: 200, did: tab.stored().did, handle: 'alice.test', email: 'alice@example.com',
  })
  await assert.rejects(signUp('alice'), { error: 'HandleNotAvailable' })
})

await step('sign in', async () => {
  const owner = await signUp('bob')
  for (const identifier of ['bob.test', 'BOB@example.com', owner.stored().did]) {
    const tab = await client.signIn(SERVICE, identifier, password)
    assert.equal(tab.stored().did, owner.stored().did)
    assert.equal((await tab.getSession()).status, 200)
  }
  await assert.rejects(client.signIn(SERVICE, 'bob.test', 'wrong'), { error: 'AuthenticationRequired' })
  assert.equal((await sessionsOf(owner)).length, 4)
})

await step('eight tabs', async () => {
  const first = await signUp('carol')
  const tabs = await Promise.all(Array.from({ length: 8 }, () => client.resume(SERVICE, first.stored())))
  for (const refreshes of [1, 2]) {
    const ids = new Set(tabs.map((tab) => claims(tab.stored().refreshJwt).jti))
    assert.equal(ids.size, 1, 'the tabs do not agree on a token')
    assert.notEqual([...ids][0], claims(first.stored().refreshJwt).jti)
    for (const tab of tabs) assert.equal((await tab.getSession()).status, 200)
    const sessions = await sessionsOf(first)
    assert.deepEqual(sessions.map((s) => s.refreshes), [refreshes], 'one session, refreshed once by all')
    await Promise.all(tabs.map((tab) => tab.refresh()))
  }
})

await step('lost answer', async () => {
  const tab = await signUp('dave')
  const before = tab.stored().refreshJwt
  await ask('lose')
  await Promise.resolve(tab.refresh()).catch(() => {}) // some throw, some only note it
  assert.equal(await ask('lost'), 1)
  assert.equal(tab.stored()?.refreshJwt, before, 'signed out by a lost answer')
  await tab.refresh()
  assert.notEqual(tab.stored().refreshJwt, before)
  assert.equal((await tab.getSession()).status, 200)
  assert.deepEqual((await sessionsOf(tab)).map((s) => s.refreshes), [1])
})

await step('refresh on expiry', async () => {
  const tab = await signUp('erin', SHORT)
  const { accessJwt, refreshJwt } = tab.stored()
  const left = claims(accessJwt).exp * 1000 - Date.now()
  await new Promise((passed) => setTimeout(passed, Math.max(left, 0) + 50))
  const calls = await Promise.all(Array.from({ length: 4 }, () => tab.getSession()))
  assert.deepEqual(calls.map((c) => c.status), [200, 200, 200, 200])
  assert.notEqual(tab.stored().refreshJwt, refreshJwt)
})

await step('app password', async () => {
  const owner = await signUp('frank')
  const made = await post(owner, 'com.atproto.server.createAppPassword', { name: 'phone' })
  const app = await client.signIn(SERVICE, 'frank.test', made.password)
  for (let i = 0; i < 2; i++) {
    assert.equal(claims(app.stored().accessJwt).scope, 'com.atproto.appPass')
    assert.equal((await app.getSession()).status, 200)
    const refused = await post(app, 'com.atproto.server.createAppPassword', { name: 'another' })
    assert.equal(refused.error, 'InvalidToken')
    await app.refresh()
  }
  const last = app.stored()
  assert.equal((await post(owner, 'com.atproto.server.revokeAppPassword', { name: 'phone' })).status, 200)
  assert.equal((await app.getSession()).error, 'ExpiredToken')
  assert.equal(app.stored(), null, 'still signed in with a revoked app password')
  await assertDead(last)
  await owner.refresh()
  assert.equal((await owner.getSession()).status, 200)
})

await step('deactivated', async () => {
  const tab = await signUp('grace')
  assert.equal((await post(tab, 'com.atproto.server.deactivateAccount', {})).status, 200)
  await tab.refresh()
  assert.equal(tab.stored().active, false)
  const { active, status } = await (await tab.fetch('/xrpc/com.atproto.server.getSession')).json()
  assert.deepEqual({ active, status }, { active: false, status: 'deactivated' })
  assert.equal((await post(tab, 'com.atproto.server.activateAccount')).status, 200)
  await tab.refresh()
  assert.equal(tab.stored().active, true)
})

await step('taken down while signed in', async () => {
  const tab = await signUp('heidi')
  const before = tab.stored()
  await takedown(before.did, true)
  const { status, error } = await tab.getSession()
  assert.deepEqual({ status, error }, { status: 401, error: 'AccountTakedown' })
  assert.equal(tab.stored(), null, 'still signed in')
  await assert.rejects(client.signIn(SERVICE, 'heidi.test', password), { error: 'AccountTakedown' })
  const leaving = await client.signIn(SERVICE, 'heidi.test', password, { allowTakendown: true })
  assert.equal(claims(leaving.stored().accessJwt).scope, 'com.atproto.takendown')
  await takedown(before.did, false)
  await assertDead(before)
  assert.equal((await (await client.signIn(SERVICE, 'heidi.test', password)).getSession()).status, 200)
})

await step('server restarted in the middle', async () => {
  const tab = await signUp('ivan')
  await ask('kill')
  await Promise.resolve(tab.refresh()).catch(() => {})
  assert.ok(tab.stored(), 'signed out because the server was away')
  await ask('restart')
  assert.equal((await tab.getSession()).status, 200)
  const before = tab.stored().refreshJwt
  await tab.refresh()
  assert.notEqual(tab.stored().refreshJwt, before)
  assert.equal((await tab.getSession()).status, 200)
})

await step('sign out', async () => {
  const tab = await signUp('judy')
  const other = await client.signIn(SERVICE, 'judy.test', password)
  const first = tab.stored()
  await tab.refresh()
  const last = tab.stored()
  await tab.signOut()
  assert.equal(tab.stored(), null)
  await assertDead(last)
  await assertDead(first)
  assert.equal((await other.getSession()).status, 200)
  assert.equal((await sessionsOf(other)).length, 1)
})

finish()
