// The first minutes of people with an app, with the real AppView behind the server.
// Driven by network_test.go.
import assert from 'node:assert/strict'
import { AtpAgent } from '@atproto/api'
import { finish, step } from './harness.mjs'
import { claims, control, eventually, network, password, raw, replyTo, signIn, signUp, SERVICE, throughAppView, upload, upToDate, write } from './network-people.mjs'

let alice, bob, hello, answer, quote

// isPicture: the AppView serves a picture, which it takes from the server.
async function isPicture(url) {
  assert.ok(url?.startsWith(`${network.appView}/img/`), url)
  const served = await fetch(url)
  assert.equal(served.status, 200, url)
  assert.match(served.headers.get('content-type'), /^image\//)
}

await step('sign up, and a profile with a picture', async () => {
  alice = await signUp('alice')
  bob = await signUp('bob')
  const avatar = await upload(alice, 'avatar')
  await alice.upsertProfile(() => ({ displayName: 'Alice ✓', description: 'a person', avatar }))
  await bob.upsertProfile(() => ({ displayName: 'Bob' }))
  const profile = await eventually(async () => {
    const { data } = await bob.getProfile({ actor: 'alice.test' })
    assert.equal(data.displayName, 'Alice ✓')
    return data
  })
  assert.deepEqual([profile.did, profile.handle, profile.description], [alice.did, 'alice.test', 'a person'])
  await isPicture(profile.avatar)
})

await step('a post with pictures', async () => {
  const images = [{ image: await upload(bob, 1), alt: 'one' }, { image: await upload(bob, 2), alt: 'two' }]
  hello = await bob.post({ text: 'hello from bob', embed: { $type: 'app.bsky.embed.images', images } })
  const [post] = await eventually(async () => {
    const { data } = await alice.getPosts({ uris: [hello.uri] })
    assert.equal(data.posts.length, 1)
    return data.posts
  })
  assert.deepEqual(post.embed.images.map((i) => i.alt), ['one', 'two'])
  for (const image of post.embed.images) await isPicture(image.fullsize)
})

await step('follow, and the timeline', async () => {
  await alice.follow(bob.did)
  await eventually(async () => {
    const { data } = await alice.getTimeline()
    assert.deepEqual(data.feed.map((i) => i.post.uri), [hello.uri])
  })
  assert.deepEqual((await alice.getFollows({ actor: alice.did })).data.follows.map((p) => p.did), [bob.did])
  assert.deepEqual((await bob.getFollowers({ actor: 'bob.test' })).data.followers.map((p) => p.did), [alice.did])
})

await step('reply, quote, like, repost', async () => {
  answer = await alice.post({ text: 'an answer', ...replyTo(hello) })
  quote = await alice.post({ text: 'look at this', embed: { $type: 'app.bsky.embed.record', record: hello } })
  await alice.like(hello.uri, hello.cid)
  await alice.repost(hello.uri, hello.cid)
  await eventually(async () => {
    const [post] = (await alice.getPosts({ uris: [hello.uri] })).data.posts
    assert.deepEqual([post.replyCount, post.quoteCount, post.likeCount, post.repostCount], [1, 1, 1, 1])
    assert.ok(post.viewer.like && post.viewer.repost)
  })
  assert.deepEqual((await bob.getLikes({ uri: hello.uri })).data.likes.map((l) => l.actor.did), [alice.did])
  assert.deepEqual((await bob.getRepostedBy({ uri: hello.uri })).data.repostedBy.map((p) => p.did), [alice.did])
  assert.deepEqual((await bob.app.bsky.feed.getQuotes({ uri: hello.uri })).data.posts.map((p) => p.uri), [quote.uri])
  assert.deepEqual((await alice.getActorLikes({ actor: alice.did })).data.feed.map((i) => i.post.uri), [hello.uri])
})

await step('threads', async () => {
  const { thread } = (await bob.getPostThread({ uri: hello.uri })).data
  assert.deepEqual(thread.replies.map((r) => r.post.uri), [answer.uri])
  const second = (await bob.app.bsky.unspecced.getPostThreadV2({ anchor: hello.uri })).data
  assert.deepEqual(second.thread.map((t) => t.uri), [hello.uri, answer.uri])
  const upwards = (await bob.getPostThread({ uri: answer.uri })).data.thread
  assert.equal(upwards.parent.post.uri, hello.uri)
})

await step('notifications', async () => {
  await eventually(async () => {
    const { notifications } = (await bob.listNotifications()).data
    assert.deepEqual(notifications.map((n) => n.reason).sort(), ['follow', 'like', 'quote', 'reply', 'repost'])
    assert.equal((await bob.countUnreadNotifications()).data.count, 5)
  })
  await bob.updateSeenNotifications() // see startBsync of network/start.mjs
})

await step('search', async () => {
  const { posts } = (await alice.app.bsky.feed.searchPosts({ q: 'hello' })).data
  assert.deepEqual(posts.map((p) => p.uri), [hello.uri])
  assert.deepEqual((await alice.searchActorsTypeahead({ q: 'bob' })).data.actors.map((p) => p.did), [bob.did])
})

await step('lists, mutes, blocks, bookmarks', async () => {
  const list = await write(alice, 'app.bsky.graph.list', { purpose: 'app.bsky.graph.defs#curatelist', name: 'friends' })
  await write(alice, 'app.bsky.graph.listitem', { subject: bob.did, list: list.uri })
  await eventually(async () => {
    const { data } = await alice.app.bsky.graph.getList({ list: list.uri })
    assert.deepEqual(data.items.map((i) => i.subject.did), [bob.did])
  })
  assert.deepEqual((await alice.app.bsky.feed.getListFeed({ list: list.uri })).data.feed.map((i) => i.post.uri), [hello.uri])

  const muted = async () => (await alice.app.bsky.graph.getMutes()).data.mutes.map((p) => p.did)
  await alice.mute(bob.did)
  await eventually(async () => assert.deepEqual(await muted(), [bob.did]))
  await alice.unmute(bob.did)
  await eventually(async () => assert.deepEqual(await muted(), []))

  const carol = await signUp('carol')
  const block = await write(alice, 'app.bsky.graph.block', { subject: carol.did })
  await eventually(async () => assert.equal((await carol.getProfile({ actor: alice.did })).data.viewer.blockedBy, true))
  await alice.com.atproto.repo.deleteRecord({ repo: alice.did, collection: 'app.bsky.graph.block', rkey: block.uri.split('/')[4] })

  await alice.app.bsky.bookmark.createBookmark(hello)
  await eventually(async () => {
    const { bookmarks } = (await alice.app.bsky.bookmark.getBookmarks()).data
    assert.deepEqual(bookmarks.map((b) => b.subject.uri), [hello.uri])
  })
})

await step('a feed generator', async () => {
  const generator = await write(bob, 'app.bsky.feed.generator', { did: network.feedDID, displayName: 'A feed' })
  await control('POST', '/feed', [quote.uri, hello.uri])
  await eventually(() => alice.app.bsky.feed.getFeedGenerator({ feed: generator.uri }))
  const { feed } = (await alice.app.bsky.feed.getFeed({ feed: generator.uri }, { headers: { 'accept-language': 'tlh' } })).data
  assert.deepEqual(feed.map((i) => i.post.uri), [quote.uri, hello.uri])
  const last = await control('GET', '/feed')
  const { iss, aud, lxm } = claims(last.headers.authorization)
  assert.deepEqual({ iss, aud, lxm, feed: last.feed }, {
    iss: alice.did, aud: network.feedDID, lxm: 'app.bsky.feed.getFeedSkeleton', feed: generator.uri,
  })
  assert.equal(last.headers['accept-language'], 'tlh')
  const nowhere = alice.app.bsky.feed.getFeed({ feed: generator.uri.replace(/[^/]*$/, '3aaaaaaaaaaa2') })
  await assert.rejects(nowhere, { status: 400 })
})

await step('preferences', async () => {
  await alice.setAdultContentEnabled(true)
  await alice.setPersonalDetails({ birthDate: '1990-05-01T00:00:00.000Z' })
  const kinds = async (agent) => (await agent.app.bsky.actor.getPreferences()).data.preferences.map((p) => p.$type.split('#')[1])
  for (const did of [network.appViewDID, network.anotherDID, network.closedDID, 'did:web:api.bsky.app']) {
    const there = await kinds(throughAppView(alice, did))
    assert.ok(there.includes('adultContentPref') && there.includes('personalDetailsPref'), `${did}: ${there}`)
  }
  const { data } = await alice.com.atproto.server.createAppPassword({ name: 'an app' })
  const app = await signIn('alice.test', data.password)
  assert.ok(!(await kinds(app)).includes('personalDetailsPref'))
  assert.deepEqual((await app.getTimeline()).data.feed.length > 0, true)
  const chat = app.withProxy('bsky_chat', network.closedDID).chat.bsky.convo.listConvos()
  await assert.rejects(chat, { status: 400, error: 'InvalidToken', message: 'Bad token method' })
})

await step('a report arrives at the moderation service', async () => {
  const report = (agent, reason) =>
    agent.com.atproto.moderation.createReport({
      reasonType: 'com.atproto.moderation.defs#reasonSpam', reason, subject: { $type: 'com.atproto.admin.defs#repoRef', did: bob.did },
    })
  await report(alice.withProxy('atproto_labeler', network.moderationDID), 'named')
  const plain = new AtpAgent({ service: SERVICE })
  await plain.login({ identifier: 'alice.test', password })
  await report(plain, 'by default')

  // A moderator reads them through the server.
  const moderator = await signUp('judy')
  await control('POST', `/moderator?did=${moderator.did}`)
  const tools = new AtpAgent({ service: SERVICE })
  await tools.login({ identifier: 'judy.test', password })
  await eventually(async () => {
    const { events } = (await tools.tools.ozone.moderation.queryEvents({ subject: bob.did, types: ['tools.ozone.moderation.defs#modEventReport'] })).data
    assert.deepEqual(events.map((e) => [e.createdBy, e.event.comment]), [[alice.did, 'by default'], [alice.did, 'named']])
  })
})

await step('service tokens', async () => {
  const lxm = 'app.bsky.actor.getProfile'
  const { token } = (await alice.com.atproto.server.getServiceAuth({ aud: network.appViewDID, lxm })).data
  const ask = (nsid) => fetch(`${network.appView}/xrpc/${nsid}?actor=${bob.did}`, { headers: { authorization: `Bearer ${token}` } })
  const profile = await ask(lxm)
  assert.equal(profile.status, 200)
  assert.ok((await profile.json()).viewer.following, 'the AppView knows who asks')
  assert.equal((await ask('app.bsky.feed.getAuthorFeed')).status, 401)
})

await step('another AppView, none, and a labeler', async () => {
  const another = throughAppView(alice, network.anotherDID)
  await upToDate(alice)
  for (const agent of [another, alice]) assert.ok((await agent.getTimeline()).data.feed.length > 0)
  const unnamed = await raw(alice, 'app.bsky.feed.getTimeline', {})
  assert.equal(unnamed.status, 200)
  assert.match(unnamed.headers.get('atproto-repo-rev'), /^[2-7a-z]{13}$/)
  const labelled = await raw(alice, 'app.bsky.feed.getTimeline', {}, { 'atproto-accept-labelers': `${network.moderationDID};redact` })
  assert.equal(labelled.headers.get('atproto-content-labelers'), `${network.moderationDID};redact`)
})

await step('a record of another server', async () => {
  // Not on this server, so the AppView is asked; it has none either.
  const answer = await raw(alice, 'com.atproto.repo.getRecord', { repo: network.anotherDID, collection: 'app.bsky.feed.post', rkey: '3aaaaaaaaaaa2' })
  assert.deepEqual([answer.status, answer.body], [400, { error: 'InvalidRequest', message: `Could not find repo: ${network.anotherDID}` }])
})

await step('services that cannot be reached', async () => {
  const unreachable = { status: 502, error: 'UpstreamFailure', message: 'Upstream service unreachable' }
  await assert.rejects(throughAppView(alice, network.closedDID).getTimeline(), unreachable)
  const chat = alice.withProxy('bsky_chat', network.closedDID)
  await assert.rejects(chat.chat.bsky.convo.listConvos(), unreachable)
  await assert.rejects(throughAppView(alice, 'did:web:nobody.invalid').getTimeline(), { status: 502, message: 'could not resolve proxy did' })
  await assert.rejects(throughAppView(alice, 'did:plc:aaaaaaaaaaaaaaaaaaaaaaaa').getTimeline(), { status: 400, message: 'could not resolve proxy did' })

  // Nobody else waits for them.
  const many = Array.from({ length: 40 }, () => chat.chat.bsky.convo.listConvos().catch((e) => e.status))
  const start = Date.now()
  await bob.getTimeline()
  assert.ok(Date.now() - start < 2000, `a timeline took ${Date.now() - start} ms`)
  for (const status of await Promise.all(many)) assert.equal(status, 502)
})

finish()
