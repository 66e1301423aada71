// What the scripts of network_test.go share.
import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { AtpAgent } from '@atproto/api'

export const { SERVICE } = process.env
export const network = JSON.parse(process.env.NETWORK)
export const password = 'correct-horse-battery'
const patience = 120_000 // of a slow machine that indexes thousands of posts

export async function control(method, path, body) {
  const answer = await fetch(network.control + path, { method, body: body && JSON.stringify(body) })
  assert.equal(answer.status, 200, path)
  return answer.json()
}

// throughAppView returns a view of an agent whose calls name an AppView, as the official app's do.
export const throughAppView = (agent, did = network.appViewDID) => agent.withProxy('bsky_appview', did)

export async function signIn(identifier, secret = password, service = SERVICE) {
  const agent = new AtpAgent({ service })
  await agent.login({ identifier, password: secret })
  return throughAppView(agent)
}

export async function signUp(name) {
  await new AtpAgent({ service: SERVICE }).createAccount({ handle: `${name}.test`, email: `${name}@example.com`, password })
  return signIn(`${name}.test`)
}

// eventually repeats a check, which throws while it does not hold, until the AppView has caught up.
export async function eventually(check) {
  for (const end = Date.now() + patience; ; ) {
    try {
      return await check()
    } catch (e) {
      if (Date.now() > end) throw e
      await sleep(100)
    }
  }
}

// upToDate waits until the AppView has all that an account wrote.
export const upToDate = (agent) =>
  eventually(async () => {
    const { rev } = (await agent.com.atproto.sync.getLatestCommit({ did: agent.did })).data
    assert.equal((await agent.getTimeline()).headers['atproto-repo-rev'], rev)
  })

// picture is a PNG of one pixel, with bytes behind it that make each another blob.
export const picture = (n) =>
  Buffer.concat([
    Buffer.from('iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==', 'base64'),
    Buffer.from(String(n)),
  ])

export const upload = async (agent, n) => (await agent.uploadBlob(picture(n), { encoding: 'image/png' })).data.blob

export async function write(agent, collection, record) {
  const { data } = await agent.com.atproto.repo.createRecord({
    repo: agent.did, collection, record: { $type: collection, createdAt: new Date().toISOString(), ...record },
  })
  return { uri: data.uri, cid: data.cid }
}

export const replyTo = (root, parent = root) => ({ reply: { root, parent } })
export const claims = (token) => JSON.parse(Buffer.from(token.split('.')[1], 'base64url'))

// raw makes a call with a session of an agent and headers of its own.
export async function raw(agent, nsid, params, headers) {
  const answer = await fetch(`${SERVICE}/xrpc/${nsid}?${new URLSearchParams(params)}`, {
    headers: { authorization: `Bearer ${agent.session.accessJwt}`, ...headers },
  })
  return { status: answer.status, headers: answer.headers, body: await answer.json() }
}
