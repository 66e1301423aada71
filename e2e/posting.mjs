// What a person posts with @atproto/api. Driven by repo_clients_test.go.
import assert from 'node:assert/strict'
import { AtpAgent, RichText } from '@atproto/api'
import { finish, step } from './harness.mjs'

const { SERVICE } = process.env
const password = 'correct-horse-battery'

// A PNG of one pixel, with some bytes behind it that make each another blob.
const image = (n) =>
  Buffer.concat([
    Buffer.from('iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==', 'base64'),
    Buffer.from(String(n)),
  ])

async function signIn(name) {
  await new AtpAgent({ service: SERVICE }).createAccount({ handle: `${name}.test`, email: `${name}@example.com`, password })
  const agent = new AtpAgent({ service: SERVICE })
  await agent.login({ identifier: `${name}.test`, password })
  return agent
}

// read is a record as anyone may read it, checked against its Lexicon.
async function read(agent, uri) {
  const [, , repo, collection, rkey] = uri.split('/')
  const { data } = await new AtpAgent({ service: SERVICE }).com.atproto.repo.getRecord({ repo, collection, rkey })
  assert.equal(data.uri, uri)
  return data
}

const blobsOf = async (agent) => (await agent.com.atproto.sync.listBlobs({ did: agent.did })).data.cids
const blobUrl = (agent, cid) => `${SERVICE}/xrpc/com.atproto.sync.getBlob?did=${agent.did}&cid=${cid}`

await step('post with an image', async () => {
  const agent = await signIn('alice')
  const bytes = image(1)
  const { blob } = (await agent.uploadBlob(bytes, { encoding: 'image/png' })).data
  assert.equal(blob.mimeType, 'image/png')
  assert.equal(blob.size, bytes.length)
  assert.deepEqual(await blobsOf(agent), [], 'a blob is listed before a record refers to it')

  const text = new RichText({ text: 'a picture ✓ of https://example.com' })
  await text.detectFacets(agent)
  const embed = { $type: 'app.bsky.embed.images', images: [{ image: blob, alt: 'a dot', aspectRatio: { width: 1, height: 1 } }] }
  const post = await agent.post({ text: text.text, facets: text.facets, embed, langs: ['en'] })
  const { cid, value } = await read(agent, post.uri)
  assert.equal(cid, post.cid)
  assert.equal(value.text, text.text)
  assert.equal(value.facets.length, 1)
  assert.equal(value.embed.images[0].image.ref.toString(), blob.ref.toString())

  assert.deepEqual(await blobsOf(agent), [blob.ref.toString()])
  const served = await fetch(blobUrl(agent, blob.ref))
  assert.equal(served.status, 200)
  assert.equal(served.headers.get('content-type'), 'image/png')
  assert.deepEqual(Buffer.from(await served.arrayBuffer()), bytes)

  await agent.deletePost(post.uri)
  await assert.rejects(read(agent, post.uri), { error: 'RecordNotFound' })
  assert.deepEqual(await blobsOf(agent), [], 'still listed, and no record refers to it')
  assert.equal((await fetch(blobUrl(agent, blob.ref))).status, 400)
})

await step('two posts share an image', async () => {
  const agent = await signIn('bob')
  const { blob } = (await agent.uploadBlob(image(2), { encoding: 'image/png' })).data
  const embed = { $type: 'app.bsky.embed.images', images: [{ image: blob, alt: '' }] }
  const first = await agent.post({ text: 'first', embed })
  const second = await agent.post({ text: 'second', embed })
  await agent.deletePost(first.uri)
  assert.equal((await fetch(blobUrl(agent, blob.ref))).status, 200)
  await agent.deletePost(second.uri)
  assert.equal((await fetch(blobUrl(agent, blob.ref))).status, 400)
})

await step('profile', async () => {
  const agent = await signIn('carol')
  const { blob } = (await agent.uploadBlob(image(3), { encoding: 'image/png' })).data
  await agent.upsertProfile((before) => {
    assert.equal(before, undefined)
    return { displayName: 'Carol', avatar: blob }
  })
  await agent.upsertProfile((before) => ({ ...before, description: 'likes tests' }))
  const { value } = await read(agent, `at://${agent.did}/app.bsky.actor.profile/self`)
  assert.equal(value.displayName, 'Carol')
  assert.equal(value.description, 'likes tests')
  assert.deepEqual(await blobsOf(agent), [value.avatar.ref.toString()])
  // Both edits read the same version: the second to arrive starts again.
  await Promise.all(
    ['displayName', 'description'].map((name) => agent.upsertProfile((before) => ({ ...before, [name]: `new ${name}` }))),
  )
  const { value: both } = await read(agent, `at://${agent.did}/app.bsky.actor.profile/self`)
  assert.deepEqual([both.displayName, both.description], ['new displayName', 'new description'])
  assert.deepEqual(await blobsOf(agent), [value.avatar.ref.toString()], 'the avatar went with an edit')
})

await step('like, repost, follow', async () => {
  const agent = await signIn('dave')
  const post = await agent.post({ text: 'like me' })
  const made = [await agent.like(post.uri, post.cid), await agent.repost(post.uri, post.cid), await agent.follow(agent.did)]
  for (const { uri, cid } of made) assert.equal((await read(agent, uri)).cid, cid)
  const { data } = await agent.com.atproto.repo.describeRepo({ repo: 'dave.test' })
  assert.deepEqual(data.collections.sort(), ['app.bsky.feed.like', 'app.bsky.feed.post', 'app.bsky.feed.repost', 'app.bsky.graph.follow'])
  await agent.deleteLike(made[0].uri)
  await agent.deleteRepost(made[1].uri)
  await agent.deleteFollow(made[2].uri)
  const after = await agent.com.atproto.repo.describeRepo({ repo: agent.did })
  assert.deepEqual(after.data.collections, ['app.bsky.feed.post'])
})

await step('pages of records, and a batch', async () => {
  const agent = await signIn('erin')
  const collection = 'app.bsky.feed.post'
  const writes = Array.from({ length: 120 }, (_, i) => ({
    $type: 'com.atproto.repo.applyWrites#create',
    collection,
    value: { $type: collection, text: `post ${i}`, createdAt: new Date().toISOString() },
  }))
  const { results } = (await agent.com.atproto.repo.applyWrites({ repo: agent.did, writes })).data
  const found = []
  for (let cursor, page = 0; page === 0 || cursor; page++) {
    const { data } = await agent.com.atproto.repo.listRecords({ repo: agent.did, collection, limit: 50, cursor })
    found.push(...data.records.map((r) => r.uri))
    cursor = data.cursor
  }
  assert.deepEqual(found.sort(), results.map((r) => r.uri).sort())
})

finish()
