// Moves an account to the reference PDS under its own DID, with what it wrote,
// and hands the reference's export back. Driven by repo_reference_test.go.
import assert from 'node:assert/strict'
import { AtpAgent } from '@atproto/api'
import { Secp256k1Keypair } from '@atproto/crypto'
import * as plc from '@did-plc/lib'
import { ask, finish, step } from './harness.mjs'

const { SERVICE, REFERENCE, PLC } = process.env
const directory = new plc.Client(PLC)
const account = { handle: 'alice.test', email: 'alice@example.com', password: 'correct-horse-battery' }
const agentOf = (service) => new AtpAgent({ service })

// serviceToken is what the old server of an account that moves would sign.
async function serviceToken(key, did, aud) {
  const part = (object) => Buffer.from(JSON.stringify(object)).toString('base64url')
  const now = Math.floor(Date.now() / 1000)
  const text = `${part({ typ: 'JWT', alg: key.jwtAlg })}.${part({
    iss: did, aud, iat: now, exp: now + 60, lxm: 'com.atproto.server.createAccount', jti: String(now),
  })}`
  return `${text}.${Buffer.from(await key.sign(Buffer.from(text))).toString('base64url')}`
}

const getRepo = async (agent) => Buffer.from((await agent.com.atproto.sync.getRepo({ did: agent.did })).data)
const records = async (agent, collection) =>
  (await agent.com.atproto.repo.listRecords({ repo: agent.did, collection, limit: 100 })).data.records
const importRepo = (agent, car) => agent.com.atproto.repo.importRepo(car, { encoding: 'application/vnd.ipld.car' })

await step('there and back', async () => {
  // The account's owner holds a rotation key, and so can sign for the move.
  const owner = await Secp256k1Keypair.create()
  const here = agentOf(SERVICE)
  await here.createAccount({ ...account, recoveryKey: owner.did() })
  const did = here.did
  const image = (await here.uploadBlob(Buffer.from('not much of an image'), { encoding: 'image/png' })).data.blob
  await here.post({ text: 'a picture', embed: { $type: 'app.bsky.embed.images', images: [{ image, alt: 'none' }] } })
  await here.upsertProfile(() => ({ displayName: 'Alice ✓' }))
  for (let i = 0; i < 60; i++) await here.post({ text: `post ${i}` })
  for (const { uri } of (await records(here, 'app.bsky.feed.post')).slice(0, 20)) await here.deletePost(uri)
  const exported = await getRepo(here)
  const head = (await here.com.atproto.sync.getLatestCommit({ did })).data
  const posts = await records(here, 'app.bsky.feed.post')
  assert.equal(posts.length, 41)

  const moving = await Secp256k1Keypair.create()
  await directory.updateAtprotoKey(did, owner, moving.did())
  const there = agentOf(REFERENCE)
  const { data: described } = await there.com.atproto.server.describeServer()
  await there.com.atproto.server.createAccount(
    { ...account, did },
    { headers: { authorization: `Bearer ${await serviceToken(moving, did, described.did)}` }, encoding: 'application/json' },
  )
  await there.login({ identifier: did, password: account.password })
  await importRepo(there, exported)

  // The reference keeps the commit as it is.
  const copied = await getRepo(there)
  assert.equal((await there.com.atproto.sync.getLatestCommit({ did })).data.cid, head.cid)
  const { blobs } = (await there.com.atproto.repo.listMissingBlobs({})).data
  assert.deepEqual(blobs.map((b) => b.cid), [image.ref.toString()])

  // Here again, over other content.
  for (const { uri } of posts.slice(0, 10)) await here.deletePost(uri)
  await here.post({ text: 'not in the export' })
  await importRepo(here, copied)
  assert.deepEqual(await records(here, 'app.bsky.feed.post'), posts)
  assert.equal(
    (await here.com.atproto.repo.getRecord({ repo: did, collection: 'app.bsky.actor.profile', rkey: 'self' })).data.value.displayName,
    'Alice ✓',
  )
  await ask('compare', [exported, copied, await getRepo(here)].map((car) => car.toString('base64')).join(' '))
})

finish()
