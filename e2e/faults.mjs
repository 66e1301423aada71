// What an app on a client library does while the server fails on purpose: it calls, starts again with
// what it has stored, signs in when its session is gone, and signs out at the end. The library refreshes.
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

// use is what people do with an app for a while, while the server fails. In tabs there are several at once, and
// one that slept comes with what it had at first: the app's mistake, which the server is to refuse.
async function use(preset, app) {
  await ask('soon', preset) // tokens expire from the start on, so the library refreshes
  let tab = await app.begin()
  await ask('faults', preset)
  const isTabs = preset === 'tabs'
  const slept = structuredClone(tab.stored())
  const others = isTabs ? await app.others(() => tab) : []
  const end = Date.now() + seconds * 1000
  const first = async () => {
    for (let i = 1; Date.now() < end; i++) {
      if (!tab.stored()) tab = await untilDone(app.signIn)
      await call(tab)
      const stored = tab.stored()
      if (i % 15 === 0 && stored && !isTabs) {
        // The app starts again. If it cannot, it goes on as it was.
        tab = await app.resume(stored).catch(() => tab)
      }
    }
  }
  const other = async (its) => {
    while (Date.now() < end) await call(its())
  }
  await Promise.all([first(), ...others.map(other)])
  if (isTabs) await app.resume(slept).then((late) => late.refresh()).catch(() => {})
  await ask('calm', preset)
  if (tab.stored()) await tab.signOut()
}

async function byPassword(preset, { url }) {
  await use(preset, {
    begin: () => client.signUp(url, { handle: 'alice.test', email: 'alice@example.com', password }),
    signIn: () => client.signIn(url, 'alice.test', password),
    resume: (stored) => client.resume(url, stored),
    others: (tab) => [tab, tab], // one worker calls for all
  })
}

// queue is a lock that all tabs know, as the library asks for.
function queue() {
  let last = Promise.resolve()
  return (_, run) => {
    const turn = last.then(run)
    last = turn.catch(() => {})
    return turn
  }
}

async function byOAuth(preset, { url, plc }) {
  const app = await client.open({
    service: url, plc, scope: 'atproto transition:generic', redirect: 'http://127.0.0.1/callback', fetch: globalThis.fetch, publish: () => {},
    requestLock: queue(),
  })
  const { did, handle } = await ask('account', preset)
  const signIn = async () => {
    const callback = await ask('allow', JSON.stringify({ preset, url: await app.begin(), identifier: handle }))
    return app.finish(new URL(callback).searchParams)
  }
  await use(preset, {
    begin: signIn,
    signIn,
    resume: (stored) => app.resume(did, stored),
    others: async () => {
      const all = [await app.another(did), await app.another(did)] // they share what is stored
      return all.map((tab) => () => tab)
    },
  })
}

await Promise.all(
  Object.entries(servers).map(([preset, server]) => step(preset, () => (isOAuth ? byOAuth : byPassword)(preset, server))),
)
finish()
