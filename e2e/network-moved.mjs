// An account that moves in from another server, with the AppView that knows it.
// Driven by network_moved_test.go: "before" runs at its old home, "after" at its new one.
import assert from 'node:assert/strict'
import { ask, finish, step } from './harness.mjs'
import { control, eventually, network, signIn, upToDate } from './network-people.mjs'

const secret = 'correct-horse-battery'

// isKnown: the AppView and the moderation service take the account's key.
async function isKnown(bob, reason) {
  const { did } = (await bob.getProfile({ actor: 'bob.test' })).data
  assert.equal(did, bob.did)
  const report = await bob.withProxy('atproto_labeler', network.moderationDID).com.atproto.moderation.createReport({
    reasonType: 'com.atproto.moderation.defs#reasonOther', reason, subject: { $type: 'com.atproto.admin.defs#repoRef', did: bob.did },
  })
  assert.equal(report.data.reportedBy, bob.did)
}

// works: what the account writes is there at once, and arrives at the AppView.
async function works(bob, text) {
  await upToDate(bob)
  await control('POST', '/pause')
  const written = await bob.post({ text })
  const timeline = (await bob.getTimeline({ limit: 20 })).data.feed
  assert.equal(timeline[0].post.uri, written.uri, 'what was just written')
  assert.equal(timeline[0].post.author.handle, 'bob.test')
  assert.ok(timeline.length > 1, 'what was written before')
  await control('POST', '/resume')
  await upToDate(bob)
  await eventually(async () => {
    const { posts } = (await bob.getPosts({ uris: [written.uri] })).data
    assert.equal(posts[0]?.record.text, text)
  })
}

if (process.argv[2] === 'before') {
  await step('the AppView and the moderation service know the account', async () => {
    const bob = await signIn('bob.test', secret)
    await upToDate(bob)
    await isKnown(bob, 'at the old home')
  })
} else {
  const bob = await signIn('bob.test', secret)
  await step('at once', async () => {
    await isKnown(bob, 'at the new home')
    await works(bob, 'at the new home')
  })
  await step('with a new key', async () => {
    await ask('rotate', bob.did)
    // The AppView asks for the new key once it has read of it in the event stream.
    await eventually(() => isKnown(bob, 'with a new key'))
    await works(bob, 'with a new key')
  })
}

finish()
