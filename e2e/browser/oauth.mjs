// Signs in to an app in Chromium and uses it, and writes a line of JSON for each step, as
// pages.mjs does. Its argument is the task of oauth_test.go: the server, whose access
// tokens live for seconds, and an account on it.
import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { build } from 'esbuild'
import { chromium } from 'playwright-core'

const task = JSON.parse(process.argv[2])
const scope = 'atproto transition:generic'

const { outputFiles: [bundle] } = await build({
  entryPoints: [new URL('oauth-app.mjs', import.meta.url).pathname], bundle: true, format: 'esm', write: false, logLevel: 'error',
})
const page = `<!doctype html><meta charset="utf-8"><title>App</title>
<script type="application/json" id="task">${JSON.stringify({ service: task.service, plc: task.plc, scope })}</script>
<script type="module" src="/app.js"></script>`
const site = createServer((request, response) => {
  const script = request.url === '/app.js'
  response.setHeader('content-type', script ? 'text/javascript' : 'text/html')
  response.end(script ? bundle.text : page)
})
await new Promise((listening) => site.listen(0, '127.0.0.1', listening))
const app = `http://127.0.0.1:${site.address().port}/`

const browser = await chromium.launch({ executablePath: task.chromium, args: ['--no-sandbox', '--disable-gpu', '--lang=en'] })

// step plays one step, in a browser of its own: no step builds on another.
const step = async (name, play) => {
  const context = await browser.newContext({ locale: 'en' })
  const faults = []
  context.on('weberror', (e) => faults.push(`a script failed: ${e.error()}`))
  try {
    await play(context)
  } catch (error) {
    faults.push(String(error?.stack ?? error))
  }
  await context.close()
  process.stdout.write(JSON.stringify({ name, faults }) + '\n')
}

const ready = (tab) => tab.waitForFunction(() => window.app)
const open = (tab) => tab.evaluate(() => window.app.open())
const call = (tab, nsid, input) => tab.evaluate(([n, i]) => window.app.call(n, i), [nsid, input])

// answer presses buttons as a person does, until the browser is back at the app.
const answer = async (context, decision) => {
  const tab = await context.newPage()
  await tab.goto(app)
  await ready(tab)
  assert.equal(await open(tab), undefined)
  await tab.evaluate(() => window.app.signIn())
  await tab.locator('#identifier').fill(task.handle)
  await tab.locator('#password').fill(task.password)
  await tab.locator('button[value=sign-in]').click()
  await tab.locator(`button[value=${decision}]`).click()
  await tab.waitForURL((url) => url.origin + '/' === app)
  await ready(tab)
  return tab
}
const signIn = async (context) => {
  const tab = await answer(context, 'allow')
  assert.equal(await open(tab), task.did)
  return tab
}
const works = async (tab) => {
  const { status, body } = await call(tab, 'com.atproto.server.getSession')
  assert.deepEqual({ status, did: body.did }, { status: 200, did: task.did })
}

// refreshes counts the token requests of a browser that succeed after the first.
const refreshes = (context) => {
  const count = { good: 0, bad: 0 }
  context.on('response', async (r) => {
    if (new URL(r.url()).pathname !== '/oauth/token' || r.request().method() !== 'POST') return
    if (r.ok()) count.good++
    else if ((await r.json().catch(() => ({}))).error !== 'use_dpop_nonce') count.bad++
  })
  return count
}

await step('authorize and call', async (context) => {
  const tab = await signIn(context)
  assert.equal(await tab.evaluate(() => window.app.scope()), scope)
  await works(tab)
  const record = { $type: 'app.bsky.feed.post', text: 'from a browser', createdAt: new Date().toISOString() }
  const made = await call(tab, 'com.atproto.repo.createRecord', { repo: task.did, collection: 'app.bsky.feed.post', record })
  assert.equal(made.status, 200, JSON.stringify(made))
  assert.equal((await call(tab, 'com.atproto.server.listAppPasswords')).status, 403)
})

await step('deny', async (context) => {
  const tab = await answer(context, 'deny')
  await assert.rejects(open(tab), /The user denied the request/)
})

await step('refresh on expiry', async (context) => {
  const tab = await signIn(context)
  const count = refreshes(context)
  for (const n of [1, 2]) {
    await tab.waitForTimeout(task.life + 500)
    await works(tab)
    assert.ok(count.good >= n && count.bad === 0, JSON.stringify(count))
  }
  await tab.reload() // the browser keeps the session, with a key that no script can read
  await ready(tab)
  assert.equal(await open(tab), task.did)
  await works(tab)
})

await step('eight tabs at once', async (context) => {
  await signIn(context)
  const count = refreshes(context)
  const tabs = await Promise.all(Array.from({ length: 8 }, async () => {
    const tab = await context.newPage()
    await tab.goto(app)
    await ready(tab)
    return tab
  }))
  assert.deepEqual(await Promise.all(tabs.map(open)), tabs.map(() => task.did))
  for (let round = 0; round < 2; round++) {
    await tabs[0].waitForTimeout(task.life + 500)
    await Promise.all(tabs.map(works))
  }
  assert.ok(count.good >= 2 && count.bad === 0, JSON.stringify(count))
})

await step('sign out', async (context) => {
  const tab = await signIn(context)
  const other = await context.newPage()
  await other.goto(app)
  await ready(other)
  assert.equal(await open(other), task.did)
  await works(other)
  await tab.evaluate(() => window.app.signOut())
  const refused = await call(other, 'com.atproto.server.getSession').catch((error) => ({ status: 0, error }))
  assert.notEqual(refused.status, 200)
  await tab.reload()
  await ready(tab)
  assert.equal(await open(tab), undefined)
})

await browser.close()
site.close()
