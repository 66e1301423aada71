// What an app on a client library does while the server fails on purpose: it calls, starts again with
// what it has stored, signs in when its session is gone, and signs out at the end.
// Usage: node faults.mjs CLIENT, driven by faults_clients_test.go. SERVERS is a JSON object: by preset,
// the URL of the server and of its directory.
import { ask, finish, step } from './harness.mjs'

const [, , name] = process.argv
const isOAuth = name.startsWith('oauth-')
const client = await import(isOAuth ? `./${name}.mjs` : `./client-${name}.mjs`)
const servers = JSON.parse(process.env.SERVERS)
const password = 'correct-horse-battery'
const sleep = (ms) => new Promise((done) => setTimeout(done, ms))
const seconds = 10

// call is an ordinary call of the app, which waits as long as Retry-After says. What the library does
// within it is the library's.
async function call(tab) {
  try {
    const answer = await tab.fetch('/xrpc/com.atproto.server.getSession')
    await answer.text()
    await sleep(150 + 1000 * Number(answer.headers.get('retry-after')))
  } catch {
    await sleep(150)
  }
}

// untilDone repeats what an app may repeat until it succeeds.
async function untilDone(run) {
  for (let i = 0; ; i++) {
    try {
      return await run()
    } catch (e) {
      if (i === 30) throw e
      await sleep(2100) // longer than any Retry-After
    }
  }
}

async function byPassword(preset, { url }) {
  let tab = await client.signUp(url, { handle: 'alice.test', email: 'alice@example.com', password })
  await ask('faults', preset)
  const end = Date.now() + seconds * 1000
  for (let i = 1; Date.now() < end; i++) {
    if (!tab.stored()) tab = await untilDone(() => client.signIn(url, 'alice.test', password))
    await call(tab)
    const stored = tab.stored()
    if (i % 15 === 0 && stored) {
      // The app starts again. If it cannot, it goes on as it was.
      tab = await client.resume(url, stored).catch(() => tab)
    }
  }
  await ask('calm', preset)
  if (tab.stored()) await tab.signOut()
}

async function byOAuth(preset, { url, plc }) {
  const app = await client.open({
    service: url, plc, scope: 'atproto transition:generic', redirect: 'http://127.0.0.1/callback', fetch: globalThis.fetch, publish: () => {},
  })
  const { handle } = await ask('account', preset)
  const signIn = async () => {
    const callback = await ask('allow', JSON.stringify({ preset, url: await app.begin(), identifier: handle }))
    return app.finish(new URL(callback).searchParams)
  }
  let tab = await signIn()
  await ask('faults', preset)
  const end = Date.now() + seconds * 1000
  for (let i = 1; Date.now() < end; i++) {
    await call(tab)
    if (!tab.stored()) break
    if (i % 15 === 0) tab = await app.resume(tab.did, tab.stored()).catch(() => tab)
  }
  await ask('calm', preset)
  if (tab.stored()) await tab.signOut()
}

await Promise.all(
  Object.entries(servers).map(([preset, server]) => step(preset, () => (isOAuth ? byOAuth : byPassword)(preset, server))),
)
finish()
