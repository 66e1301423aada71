// What a person does with an app that signs in by OAuth, step by step.
// Usage: node oauth.mjs CLIENT, driven by oauth_clients_test.go. SERVICE is the server, at VIA if
// its name is not in DNS; SHORT, if there is one, a server whose access tokens live for seconds;
// CLIENT_ID, if it is set, the URL of a confidential client's document.
import assert from 'node:assert/strict'
import { ask, finish, step } from './harness.mjs'

const { open } = await import(`./oauth-${process.argv[2]}.mjs`)
const { SERVICE, VIA, PLC, SHORT, SHORT_PLC, CLIENT_ID, REDIRECT } = process.env
const scope = 'atproto transition:generic'

// network is what stands between the client and the server: it can lose the answer of the
// token endpoint, after the server has given it.
const network = { lose: 0, lost: 0 }
async function lossyFetch(input, init) {
  const url = new URL(input instanceof Request ? input.url : input)
  if (VIA && url.origin === SERVICE) {
    const via = new URL(url.pathname + url.search, VIA)
    input = input instanceof Request ? new Request(via, input) : via
  }
  const answer = await fetch(input, init)
  if (url.pathname !== '/oauth/token' || network.lose === 0 || answer.status !== 200) return answer
  network.lose--
  network.lost++
  await answer.arrayBuffer()
  throw new TypeError('fetch failed')
}

const openApp = (service, plc) =>
  open({
    service, plc, scope, redirect: REDIRECT, fetch: lossyFetch, clientID: CLIENT_ID,
    publish: (metadata) => ask('publish', JSON.stringify(metadata)),
  })
const app = await openApp(SERVICE, PLC)

// signIn makes an account and lets its owner sign in to the app.
async function signIn(name, { from = app, short = false } = {}) {
  const { did, handle } = await ask(short ? 'short account' : 'account', name)
  const callback = await ask('allow', JSON.stringify({ url: await from.begin(), identifier: handle }))
  const tab = await from.finish(new URL(callback).searchParams)
  assert.equal(tab.did, did)
  return tab
}

async function call(tab, nsid, body) {
  const answer = await tab.fetch(`/xrpc/${nsid}`, {
    method: body ? 'POST' : 'GET',
    headers: body && { 'content-type': 'application/json' },
    body: body && JSON.stringify(body),
  })
  const text = await answer.text()
  return { status: answer.status, ...(text && JSON.parse(text)) }
}

async function works(tab) {
  const { status, did } = await call(tab, 'com.atproto.server.getSession')
  assert.deepEqual({ status, did }, { status: 200, did: tab.did })
}

const post = (tab, text) =>
  call(tab, 'com.atproto.repo.createRecord', {
    repo: tab.did, collection: 'app.bsky.feed.post',
    record: { $type: 'app.bsky.feed.post', text, createdAt: new Date().toISOString() },
  })

const generation = (token) => Number(JSON.parse(Buffer.from(token.split('.')[1], 'base64url')).jti.split('.').at(-1))

await step('sign in and call', async () => {
  const tab = await signIn('alice')
  assert.equal(tab.tokens().scope, scope)
  await works(tab)
  assert.equal((await post(tab, 'hello')).status, 200)
  assert.equal((await call(tab, 'com.atproto.server.listAppPasswords')).status, 403)
})

await step('deny', async () => {
  const { handle } = await ask('account', 'denier')
  const callback = new URL(await ask('deny', JSON.stringify({ url: await app.begin(), identifier: handle })))
  assert.equal(callback.searchParams.get('error'), 'access_denied')
  assert.equal(callback.searchParams.get('iss'), SERVICE)
  await assert.rejects(app.finish(callback.searchParams))
})

await step('refresh', async () => {
  const tab = await signIn('bob')
  for (const n of [0, 1, 2]) {
    assert.equal(generation(tab.tokens().refresh_token), n)
    await tab.refresh()
    await works(tab)
  }
})

await step('a lost answer', async () => {
  const tab = await signIn('carol')
  const before = tab.stored()
  for (const lost of [1, 2, 3]) {
    network.lose = lost
    for (let i = 0; i < lost; i++) await assert.rejects(tab.refresh())
    await tab.refresh()
    await works(tab)
  }
  assert.equal(network.lost, 6)
  const again = await app.resume(tab.did, before) // the app's disk forgot all of it
  await again.refresh()
  await works(again)
  await works(tab)
})

await step('eight tabs', async () => {
  const first = await signIn('dave')
  const tabs = await Promise.all(Array.from({ length: 8 }, () => app.resume(first.did, first.stored())))
  for (const round of [1, 2, 3]) {
    await Promise.all(tabs.map((tab) => tab.refresh()))
    await Promise.all(tabs.map(works))
    const newest = new Set(tabs.map((tab) => generation(tab.tokens().refresh_token)))
    assert.deepEqual([...newest], [round])
  }
})

await step('restart and crash', async () => {
  const tab = await signIn('erin')
  for (const how of ['stop', 'kill']) {
    await ask(how)
    await ask('restart')
    await works(tab)
    await tab.refresh()
    assert.equal((await post(tab, how)).status, 200)
  }
})

await step('sign out', async () => {
  const tab = await signIn('frank')
  const copy = await app.resume(tab.did, tab.stored())
  await tab.signOut()
  const refused = await call(copy, 'com.atproto.server.getSession').catch((e) => e)
  assert.notEqual(refused.status, 200, 'its access token works')
  await assert.rejects(copy.refresh())
})

await step('ended elsewhere', async () => {
  const tab = await signIn('grace')
  await works(tab)
  await ask('end', tab.did)
  const refused = await call(tab, 'com.atproto.server.getSession').catch((e) => e)
  assert.notEqual(refused.status, 200, 'its access token works')
  await assert.rejects(tab.refresh())
})

if (SHORT) await step('expiry', async () => {
  const short = await openApp(SHORT, SHORT_PLC)
  const tab = await signIn('heidi', { from: short, short: true })
  await works(tab)
  await new Promise((done) => setTimeout(done, 4000))
  if (process.argv[2] === 'oauth4webapi') {
    await assert.rejects(works(tab)) // it leaves refreshing to its caller
    await tab.refresh()
  }
  await works(tab)
})

finish()
