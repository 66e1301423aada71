// What people see of what they just wrote, while the AppView does not know it; and that the AppView then shows the
// same. Driven by network_test.go.
import assert from 'node:assert/strict'
import { AppBskyFeedDefs } from '@atproto/api'
import { finish, step } from './harness.mjs'
import { control, eventually, network, raw, replyTo, signUp, throughAppView, upload, upToDate, write } from './network-people.mjs'

const erin = await signUp('erin')
const frank = await signUp('frank')
await erin.upsertProfile(() => ({ displayName: 'Erin', description: 'before' }))
await erin.follow(frank.did)
const old = await erin.post({ text: 'an old post' })
const doomed = await erin.post({ text: 'an old post that goes' })
const frankly = await frank.post({ text: 'a post of another' })
const before = await erin.post({ text: 'an old answer', ...replyTo(frankly) })
const doomedAnswer = await erin.post({ text: 'an old answer that goes', ...replyTo(frankly) })
const list = await write(frank, 'app.bsky.graph.list', { purpose: 'app.bsky.graph.defs#curatelist', name: 'A list' })
const generator = await write(frank, 'app.bsky.feed.generator', { did: network.feedDID, displayName: 'A feed' })
await upToDate(frank)
await upToDate(erin)
await control('POST', '/pause')

const image = await upload(erin, 'ahead')
const shown = new Map() // posts as they were shown early
const uris = (answer) => answer.data.feed.map((i) => i.post.uri)
const quoteOf = (record) => ({ $type: 'app.bsky.embed.record', record })
const pictures = { $type: 'app.bsky.embed.images', images: [{ image, alt: 'a dot', aspectRatio: { width: 1, height: 1 } }] }
const link = { $type: 'app.bsky.embed.external', external: { uri: 'https://example.com/', title: 'a title', description: 'some words', thumb: image } }

// isEarly: an answer has what the AppView did not, and tells how far behind that is.
function isEarly(answer) {
  assert.ok(Number(answer.headers['atproto-upstream-lag']) > 0, 'the lag')
  assert.match(answer.headers['atproto-repo-rev'], /^[2-7a-z]{13}$/)
  for (const item of answer.data.feed ?? []) {
    const valid = AppBskyFeedDefs.validateFeedViewPost(item)
    assert.ok(valid.success, String(valid.error))
  }
  return answer
}

let fresh, passing, firstAnswer, secondAnswer
await step('new posts in the timeline', async () => {
  const embeds = {
    'a picture': pictures,
    'a gallery': { $type: 'app.bsky.embed.gallery', items: [{ $type: 'app.bsky.embed.gallery#image', image, alt: 'hung', aspectRatio: { width: 1, height: 1 } }] },
    'a link': link,
    'a quote': quoteOf(frankly),
    'a quote of a list': quoteOf(list),
    'a quote of a feed': quoteOf(generator),
    'a quote of nothing': quoteOf({ ...frankly, uri: frankly.uri.replace(/[^/]*$/, '3aaaaaaaaaaa2') }),
    'a quote with a picture': { $type: 'app.bsky.embed.recordWithMedia', record: quoteOf(frankly), media: pictures },
  }
  fresh = await erin.post({ text: 'new' })
  passing = await erin.post({ text: 'new, and soon gone' })
  const all = [passing.uri, fresh.uri]
  for (const [text, embed] of Object.entries(embeds)) all.unshift((await erin.post({ text, embed })).uri)
  all.unshift((await erin.post({ text: 'a quote of a new post', embed: quoteOf(fresh) })).uri)
  const labels = { $type: 'com.atproto.label.defs#selfLabels', values: [{ val: 'spam' }] }
  all.unshift((await erin.post({ text: 'with a label', labels })).uri)

  const first = isEarly(await erin.getTimeline({ limit: 3 }))
  assert.deepEqual(uris(first).slice(0, all.length), all)
  for (const { post } of first.data.feed.slice(0, all.length)) shown.set(post.uri, post)
  const second = await erin.getTimeline({ limit: 3, cursor: first.data.cursor })
  const twice = uris(second).filter((uri) => uris(first).includes(uri))
  assert.deepEqual(twice, [], 'on both pages')
})

await step('threads', async () => {
  firstAnswer = await erin.post({ text: 'a new answer', ...replyTo(frankly) })
  secondAnswer = await erin.post({ text: 'an answer to that', ...replyTo(frankly, firstAnswer) })
  const thread = async (params) => isEarly(await erin.getPostThread(params)).data.thread
  const whole = await thread({ uri: frankly.uri })
  assert.equal(whole.replies[0].post.uri, firstAnswer.uri)
  assert.deepEqual(whole.replies[0].replies.map((r) => r.post.uri), [secondAnswer.uri])
  assert.ok(whole.replies.some((r) => r.post.uri === before.uri))

  const own = await thread({ uri: fresh.uri.replace(erin.did, 'erin.test') })
  assert.deepEqual([own.post.uri, own.post.author.displayName], [fresh.uri, 'Erin'])
  const deep = await thread({ uri: secondAnswer.uri })
  assert.deepEqual([deep.parent.post.uri, deep.parent.parent.post.uri], [firstAnswer.uri, frankly.uri])

  const shallow = (await erin.getPostThread({ uri: frankly.uri, depth: 0 })).data.thread
  assert.deepEqual(shallow.replies ?? [], [])
  await assert.rejects(erin.getPostThread({ uri: fresh.uri.replace(/[^/]*$/, '3aaaaaaaaaaa2') }), { status: 400, error: 'NotFound' })
  // For somebody else it is not there.
  await assert.rejects(frank.getPostThread({ uri: fresh.uri }), { status: 400, error: 'NotFound' })
  // The app polls this one to learn when the AppView has caught up.
  const second = await erin.app.bsky.unspecced.getPostThreadV2({ anchor: fresh.uri })
  assert.ok(!second.data.thread.some((t) => t.value.post), JSON.stringify(second.data))
})

await step('the author feed, by filter', async () => {
  const texts = async (filter) => {
    const answer = isEarly(await erin.getAuthorFeed({ actor: 'erin.test', filter, limit: 50 }))
    return answer.data.feed.map((i) => i.post.record.text)
  }
  const all = await texts('posts_with_replies')
  for (const text of ['new', 'a picture', 'a new answer', 'an answer to that', 'an old post']) assert.ok(all.includes(text), `${text}: ${all}`)
  const media = await texts('posts_with_media')
  assert.deepEqual(media, ['a quote with a picture', 'a gallery', 'a picture'])
  const none = await texts('posts_no_replies')
  assert.ok(none.includes('new') && !none.includes('a new answer') && !none.includes('an old answer'), `${none}`)
  const threads = await texts('posts_and_author_threads')
  assert.ok(threads.includes('new') && !threads.includes('a new answer'), `${threads}`)
  assert.ok(!uris(await erin.getAuthorFeed({ actor: 'frank.test' })).some((uri) => uri.includes(erin.did)))
})

await step('a profile after more than ten new records', async () => {
  for (let i = 0; i < 15; i++) await erin.like(frankly.uri, frankly.cid)
  for (let i = 0; i < 15; i++) await erin.post({ text: `one of many ${i}` })
  await erin.upsertProfile((profile) => ({ ...profile, displayName: 'Erin after', description: 'after', avatar: image, pronouns: 'she/her' }))
  const fits = ({ did, displayName, description, avatar, pronouns }) => {
    assert.deepEqual({ did, displayName, description, pronouns }, { did: erin.did, displayName: 'Erin after', description: 'after', pronouns: 'she/her' })
    assert.ok(avatar.startsWith(`${network.appView}/img/avatar/plain/${erin.did}/`), avatar)
  }
  fits((await erin.getProfile({ actor: 'erin.test' })).data)
  const { profiles } = (await erin.getProfiles({ actors: [frank.did, erin.did] })).data
  fits(profiles.find((p) => p.did === erin.did))
  assert.equal((await frank.getProfile({ actor: erin.did })).data.displayName, 'Erin')

  const timeline = isEarly(await erin.getTimeline({ limit: 100 }))
  assert.equal(timeline.data.feed.filter((i) => i.post.record.text.startsWith('one of many')).length, 15)
  const own = timeline.data.feed.filter((i) => i.post.author.did === erin.did)
  assert.ok(own.some((i) => i.post.uri === old.uri))
  for (const { post } of own) assert.equal(post.author.displayName, 'Erin after', post.record.text)
})

await step('deleted posts', async () => {
  const gone = [doomed.uri, passing.uri, doomedAnswer.uri]
  for (const uri of gone) await erin.deletePost(uri)
  const lists = [
    ...uris(await erin.getTimeline({ limit: 100 })),
    ...uris(await erin.getAuthorFeed({ actor: erin.did, limit: 100 })),
    ...(await erin.getPostThread({ uri: frankly.uri })).data.thread.replies.map((r) => r.post.uri),
  ]
  assert.deepEqual(lists.filter((uri) => gone.includes(uri)), [])
  assert.ok(lists.includes(old.uri) && lists.includes(firstAnswer.uri))
  await assert.rejects(erin.getPostThread({ uri: passing.uri }), { status: 400, error: 'NotFound' })
  shown.delete(passing.uri)
})

await step('the same through another AppView, and through none that is named', async () => {
  const another = throughAppView(erin, network.anotherDID)
  assert.ok(isEarly(await another.getTimeline()).data.feed.some((i) => i.post.record.text === 'one of many 14'))
  assert.equal((await another.getProfile({ actor: erin.did })).data.displayName, 'Erin after')
  const plain = await raw(erin, 'app.bsky.feed.getTimeline', {})
  assert.equal(plain.body.feed[0].post.record.text, 'one of many 14')
  const packed = await raw(erin, 'app.bsky.feed.getTimeline', {}, { 'accept-encoding': 'gzip', 'atproto-accept-labelers': network.moderationDID })
  assert.equal(packed.body.feed[0].post.record.text, 'one of many 14')
  assert.equal(packed.headers.get('atproto-content-labelers'), network.moderationDID)
})

// comparable returns what an early view must have as the AppView's has it. Counts may have grown, each names its own
// time of indexing, and a type may stand where it goes without saying.
function comparable(view) {
  if (Array.isArray(view)) return view.map(comparable)
  if (view === null || typeof view !== 'object') return view
  const { indexedAt, viewer, author, replyCount, repostCount, likeCount, quoteCount, bookmarkCount, ...rest } = view
  if (author) rest.author = author.did
  if (rest.$type === 'app.bsky.embed.record#view') delete rest.$type
  return Object.fromEntries(Object.entries(rest).map(([name, value]) => [name, comparable(value)]))
}

await step('the AppView shows the same later', async () => {
  await control('POST', '/resume')
  await upToDate(erin)
  const late = await eventually(async () => {
    const answer = await erin.getTimeline({ limit: 100 })
    assert.equal(answer.headers['atproto-upstream-lag'], undefined)
    return answer
  })
  assert.equal(new Set(uris(late)).size, late.data.feed.length, 'a post is there twice')
  const posts = new Map(late.data.feed.map((i) => [i.post.uri, i.post]))
  const different = []
  for (const [uri, early] of shown) {
    try {
      assert.deepEqual(comparable(early), comparable(posts.get(uri) ?? null))
    } catch (e) {
      different.push(`${early.record.text}: ${e.message}`)
    }
  }
  assert.deepEqual(different.join('\n'), '')
  assert.equal((await erin.getProfile({ actor: erin.did })).data.pronouns, 'she/her')
})

finish()
