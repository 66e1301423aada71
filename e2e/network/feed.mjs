// A feed generator. The test says which posts are in its feeds, and asks what the last caller sent.
import { createServer } from 'node:http'

const method = '/xrpc/app.bsky.feed.getFeedSkeleton'

// startFeed returns the feed generator's DID, and what the test sets and reads.
export function startFeed(port) {
  const did = `did:web:localhost%3A${port}`
  const feed = { did, posts: [], last: null }
  createServer((request, response) => {
    const { pathname, searchParams } = new URL(request.url, 'http://localhost')
    const answer = (status, body) => response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
    if (pathname === '/.well-known/did.json') {
      const entry = { id: '#bsky_fg', type: 'BskyFeedGenerator', serviceEndpoint: `http://localhost:${port}` }
      return answer(200, { '@context': ['https://www.w3.org/ns/did/v1'], id: did, service: [entry] })
    }
    if (pathname !== method) return answer(501, { error: 'MethodNotImplemented', message: pathname })
    feed.last = { feed: searchParams.get('feed'), headers: request.headers }
    return answer(200, { feed: feed.posts.map((post) => ({ post })) })
  }).listen(port)
  return feed
}
