// Clients that hold their sessions while the server below them changes: from the reference to
// Nestbox, and back. Driven by takeover_reference_test.go.
import assert from 'node:assert/strict'
import { AtpAgent } from '@atproto/api'
import { PasswordSession } from '@atproto/lex-password-session'
import { ask, finish, step } from './harness.mjs'
import { open } from './oauth-atproto.mjs'

const { SERVICE, PLC, REDIRECT, BUSY } = process.env
const scope = 'atproto transition:generic'
// Two programs: each keeps one session an account.
const openApp = () => open({ service: SERVICE, plc: PLC, scope, redirect: REDIRECT, fetch })
const app = await openApp()
const saved = (session) => structuredClone(session)
const post = (text) => ({ $type: 'app.bsky.feed.post', text, createdAt: new Date().toISOString() })

// resumed opens a saved session as an app does that starts anew: it refreshes at once.
async function resumed(session) {
  const agent = new AtpAgent({ service: SERVICE })
  await agent.resumeSession(saved(session))
  return agent
}

async function login(identifier, password) {
  const agent = new AtpAgent({ service: SERVICE })
  await agent.login({ identifier, password })
  return agent
}

async function granted(by, identifier) {
  const callback = await ask('allow', JSON.stringify({ url: await by.begin(), identifier, scope }))
  const tab = await by.finish(new URL(callback).searchParams)
  const { status } = await tab.fetch('/xrpc/com.atproto.server.getSession')
  assert.equal(status, 200)
  return tab
}

async function writes(tab) {
  const answer = await tab.fetch('/xrpc/com.atproto.repo.createRecord', {
    method: 'POST', headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ repo: tab.did, collection: 'app.bsky.feed.post', record: post('by OAuth') }),
  })
  assert.equal(answer.status, 200, await answer.text())
}

// A busy client refreshes again and again, and keeps its session over what is passing, as the
// official app does.
const busy = { stop: false, ended: [], moved: 0 }
async function hammer(session) {
  while (!busy.stop) {
    try {
      await session.refresh()
      busy.moved++
    } catch {} // nobody listens: it tries again
    if (session.destroyed) return void busy.ended.push(session.did)
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}

const people = await ask('people')
const { alice, heidi } = people
const PASSWORD = people.password
const held = {}
const working = []

await step('before the switch', async () => {
  const first = await login(alice.handle, PASSWORD)
  held.fresh = saved(first.session)
  const second = await login(alice.handle, PASSWORD)
  held.old = saved(second.session)
  await second.sessionManager.refreshSession()
  held.newer = saved(second.session)
  const lost = await login(alice.handle, PASSWORD)
  held.lost = saved(lost.session)
  await lost.sessionManager.refreshSession() // its answer never comes
  const out = await login(alice.handle, PASSWORD)
  held.outBefore = saved(out.session)
  await out.sessionManager.refreshSession()
  held.out = saved(out.session)
  await out.logout()
  held.app = saved((await login(alice.handle, people.app)).session)
  held.privileged = saved((await login(alice.handle, people.privileged)).session)
  held.revoked = saved((await login(alice.handle, people.revoked)).session)
  held.lex = await PasswordSession.login({ service: SERVICE, identifier: heidi.handle, password: PASSWORD })
  held.tab = await granted(app, heidi.handle)
  held.stored = held.tab.stored()
  held.refreshed = await granted(await openApp(), heidi.handle)
  await held.refreshed.refresh()
  for (let i = 0; i < Number(BUSY); i++) {
    working.push(hammer(await PasswordSession.login({ service: SERVICE, identifier: heidi.handle, password: PASSWORD })))
  }
})

await ask('switch')

await step('an app that goes on', async () => {
  // Its access token is the old server's.
  const answer = await held.lex.fetchHandler('/xrpc/com.atproto.server.getSession', {})
  assert.equal(answer.status, 200)
  await held.lex.refresh()
  assert.equal(held.lex.destroyed, false)
})

for (const name of ['fresh', 'newer', 'old', 'lost', 'app', 'privileged']) {
  await step(`a saved session: ${name}`, async () => {
    const agent = await resumed(held[name])
    assert.equal(agent.session?.did, alice.did)
    await agent.com.atproto.repo.createRecord({ repo: alice.did, collection: 'app.bsky.feed.post', record: post(name) })
    const claims = JSON.parse(Buffer.from(agent.session.accessJwt.split('.')[1], 'base64url'))
    const want = { app: 'appPass', privileged: 'appPassPrivileged' }[name] ?? 'access'
    assert.equal(claims.scope, `com.atproto.${want}`)
    assert.ok(claims.sid, 'a token of the new server')
    held[name] = saved(agent.session)
  })
}

for (const name of ['out', 'outBefore', 'revoked']) {
  await step(`what was ended: ${name}`, async () => {
    await assert.rejects(resumed(held[name]), { error: 'ExpiredToken', message: 'Token has been revoked' })
  })
}

await step('an app by OAuth goes on', async () => {
  await writes(held.tab) // by the old server's access token
  const again = await app.resume(heidi.did, held.stored) // as a program that starts anew
  await again.refresh()
  await writes(again)
  await held.refreshed.refresh()
  await writes(held.refreshed)
})

await step('nobody of the busy is signed out', async () => {
  const before = busy.moved
  while (busy.moved < before + 3 * Number(BUSY) && !busy.ended.length) await new Promise((resolve) => setTimeout(resolve, 50))
  busy.stop = true
  await Promise.all(working)
  assert.deepEqual(busy.ended, [])
})

await step('the next sign-ins', async () => {
  for (const password of [PASSWORD, people.app, people.privileged]) {
    assert.equal((await login(alice.handle, password)).session.did, alice.did)
  }
  await assert.rejects(login(alice.handle, people.revoked), { error: 'AuthenticationRequired' })
  const signedOut = await resumed(held.fresh)
  await signedOut.logout()
  held.gone = saved(held.fresh)
})

await ask('back')

await step('at the old server again', async () => {
  for (const name of ['newer', 'app', 'privileged']) {
    const agent = await resumed(held[name])
    assert.equal(agent.session?.did, alice.did)
    await agent.com.atproto.server.getSession()
  }
  await held.lex.refresh()
  assert.equal(held.lex.destroyed, false)
  await assert.rejects(resumed(held.gone), { error: 'ExpiredToken' })
  await assert.rejects(resumed(held.out), { error: 'ExpiredToken' })
})

finish()
