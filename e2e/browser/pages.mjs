// Looks at each sample page in Chromium and writes a line of JSON for each: its name, and
// what is wrong with it. Its argument is the task of pages_test.go.
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { chromium } from 'playwright-core'

const task = JSON.parse(process.argv[2])
const axeSource = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
const foreign = /^https:\/\/js\.hcaptcha\.com\// // the one script of another host, on the page with the captcha

const report = (name, faults) => process.stdout.write(JSON.stringify({ name, faults }) + '\n')

// watch notes what a page must not do: violate its policy, ask other hosts, log errors.
const watch = async (context) => {
  const page = await context.newPage()
  const faults = []
  await page.addInitScript(() => {
    window.violations = []
    document.addEventListener('securitypolicyviolation', (e) => window.violations.push(`${e.violatedDirective} ${e.blockedURI}`))
  })
  await page.route((url) => url.origin !== task.origin && url.origin !== local(task.origin) && url.protocol !== 'data:', (route) => {
    if (!foreign.test(route.request().url())) faults.push(`a request to ${route.request().url()}`)
    return route.abort()
  })
  page.on('pageerror', (error) => faults.push(`a script failed: ${error}`))
  page.on('console', (message) => {
    const text = message.text()
    if (message.type() !== 'error' || /status of (4|5)\d\d/.test(text) || /ERR_FAILED/.test(text)) return
    faults.push(`console: ${text}`)
  })
  return { page, faults }
}

// Passkeys work at a name, not at an address.
const local = (url) => url.replace('127.0.0.1', 'localhost')
const address = (sample) => `${task.origin}${sample.path}?sample=${sample.name}`

// sideways returns what is wider than the window, once two frames have been drawn: before, a
// scroll bar that comes and goes counts.
const sideways = async () => {
  await new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))
  const root = document.documentElement
  if (root.scrollWidth <= root.clientWidth) return []
  const wide = [...document.querySelectorAll('body *')].filter((e) => e.getBoundingClientRect().right > root.clientWidth + 1 || e.getBoundingClientRect().left < -1)
  // What ::before writes is no element.
  if (!wide.length) wide.push(...[...document.querySelectorAll('body *')].filter((e) => e.scrollWidth > e.clientWidth && e.clientWidth))
  return [`it scrolls sideways by ${root.scrollWidth - root.clientWidth} px: ${wide.slice(-3).map((e) => e.outerHTML.slice(0, 90)).join(' … ')}`]
}

// small returns buttons under 44 px.
const small = () => [...document.querySelectorAll('.button, input:not([type=checkbox]):not([type=hidden]):not(.hidden-text), select')]
  .filter((e) => e.checkVisibility() && e.getBoundingClientRect().height < 43.5)
  .map((e) => `${e.outerHTML.slice(0, 80)} is ${e.getBoundingClientRect().height} px high`)

const axe = async (page, options) => {
  const results = await page.evaluate((o) => window.axe.run(document, { resultTypes: ['violations'], ...o }), options)
  return results.violations.flatMap((v) => v.nodes.map((n) => `axe ${v.id}: ${n.failureSummary.replace(/\s+/g, ' ')} ${n.html.slice(0, 120)}`))
}

// keyboard walks over the page with Tab: everything that can be used is reached, in the
// order of the document, and shows that it has the focus.
const keyboard = async (page) => {
  const expected = await page.evaluate(() => {
    document.activeElement?.blur()
    const all = [...document.querySelectorAll('a[href], button, input:not([type=hidden]), select, summary, textarea')]
      .filter((e) => e.tabIndex >= 0 && !e.disabled && e.checkVisibility({ visibilityProperty: true }))
    all.forEach((e, i) => { e.dataset.order = i })
    return all.length
  })
  const faults = []
  await page.evaluate(() => { document.querySelector('.skip').focus() })
  for (let i = 0; i < expected; i++) {
    const at = await page.evaluate(() => {
      const e = document.activeElement
      const style = getComputedStyle(e)
      return { order: e.dataset.order, html: e.outerHTML.slice(0, 90), ring: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2 }
    })
    if (Number(at.order) !== i) {
      faults.push(`Tab leads to ${at.html} as number ${i}, it is number ${at.order} of the document`)
      break
    }
    if (!at.ring) faults.push(`no focus ring on ${at.html}`)
    // A date has several fields of its own, and a button.
    for (let n = 0; n < 5; n++) {
      await page.keyboard.press('Tab')
      if (!await page.evaluate((order) => document.activeElement.type === 'date' && document.activeElement.dataset.order === order, at.order)) break
    }
  }
  return faults
}

const look = async ({ page, faults }, sample) => {
  faults.length = 0
  await page.setViewportSize({ width: 320, height: 640 })
  await page.emulateMedia({ colorScheme: 'light' })
  await page.goto(address(sample), { waitUntil: 'load' })
  if (sample.name === 'formpost') { // submit.js has pressed the button
    await page.waitForURL('**/sample-callback')
    if (faults.length === 0 && !(await page.content()).includes('"code":["x"]')) faults.push('the form was not posted')
    return [...faults]
  }
  const found = []
  await page.evaluate(axeSource)
  found.push(...await page.evaluate(sideways), ...await page.evaluate(small))
  found.push(...await axe(page, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }))
  await page.emulateMedia({ colorScheme: 'dark' })
  found.push(...(await axe(page, { runOnly: { type: 'rule', values: ['color-contrast'] } })).map((f) => `dark: ${f}`))
  found.push(...await keyboard(page))
  const summary = await page.evaluate(() => document.querySelector('.problems') !== null && document.querySelectorAll('[aria-invalid=true]').length === 0 &&
    document.querySelectorAll('.problems a').length > 0)
  if (summary) found.push('no field is marked as wrong')
  await page.evaluate(() => { document.documentElement.dir = 'rtl' })
  found.push(...(await page.evaluate(sideways)).map((f) => `right to left: ${f}`))
  await page.evaluate(() => { document.documentElement.dir = 'ltr' })
  await page.setViewportSize({ width: 1280, height: 800 })
  found.push(...(await page.evaluate(sideways)).map((f) => `wide: ${f}`))
  found.push(...(await page.evaluate(() => window.violations)).map((v) => `policy: ${v}`))
  return [...new Set([...found, ...faults])]
}

// inPseudo looks at the layout with texts that are two fifths longer.
const inPseudo = async ({ page }, sample) => {
  if (sample.name === 'formpost') return []
  await page.goto(address(sample), { waitUntil: 'load' })
  return (await page.evaluate(sideways)).map((f) => `pseudo-language: ${f}`)
}

const focused = async ({ page }, sample) => {
  if (!/wrong|empty/.test(sample.name)) return []
  const on = await page.evaluate(() => document.activeElement.className)
  return on === 'problems' ? [] : [`the focus is on ${on || 'nothing'}, not on the list of problems`]
}

// posted returns the fields of the form that the page has just sent.
const posted = async (page, act) => {
  const [answer] = await Promise.all([page.waitForResponse((r) => r.request().method() === 'POST'), act()])
  return (await answer.json()).fields
}
const differs = (got, want) => Object.entries(want).filter(([k, v]) => JSON.stringify(got[k]) !== JSON.stringify(v)).map(([k, v]) => `${k} is ${JSON.stringify(got[k])}, want ${JSON.stringify(v)}`)

// The stories are played with and without scripts, by keyboard.
const stories = {
  'sign in': async (page) => {
    await page.goto(address({ name: 'signin-app', path: '/oauth/authorize' }))
    await page.locator('input[name=identifier]:focus').waitFor() // the page gives it the focus
    await page.keyboard.type('alice.example.com')
    await page.keyboard.press('Tab')
    await page.keyboard.type('correct horse')
    const got = await posted(page, () => page.keyboard.press('Enter'))
    return differs(got, { flow: ['c2VhbGVk'], step: ['sign-in'], identifier: ['alice.example.com'], password: ['correct horse'], decision: ['sign-in'] })
  },
  'untick and allow': async (page) => {
    await page.goto(address({ name: 'consent', path: '/oauth/authorize' }))
    let sent = false
    page.on('request', (r) => { sent ||= r.method() === 'POST' })
    const boxes = page.locator('input[name=permission]')
    await boxes.first().focus()
    await page.keyboard.press('Enter')
    await page.waitForTimeout(100)
    if (sent || page.url().includes('?flow')) return ['Enter on a tick box sent the form']
    await page.keyboard.press('Space')
    await page.locator('button[value=allow]').focus()
    const got = await posted(page, () => page.keyboard.press('Enter'))
    return differs(got, { step: ['consent'], decision: ['allow'], permission: ['include:app.bsky.authCreatePosts', 'blob:image/*', 'rpc:app.bsky.feed.getTimeline?aud=did:web:api.bsky.app#bsky_appview'] })
  },
  'sign up': async (page) => {
    await page.goto(address({ name: 'signup', path: '/account/sign-up' }))
    await page.locator('#handle').focus()
    await page.keyboard.type('alice')
    const got = await posted(page, () => page.keyboard.press('Enter'))
    return differs(got, { csrf: ['dG9rZW4'], step: ['sign-up'], handle: ['alice'], domain: ['.pds.example.com'], decision: ['sign-up'] })
  },
  'another method': async (page) => {
    await page.goto(address({ name: 'factor-totp', path: '/oauth/authorize' }))
    await page.locator('button[name=method][value=email]').focus()
    const got = await posted(page, () => page.keyboard.press('Enter'))
    return differs(got, { step: ['factor'], method: ['email'], decision: undefined })
  },
  'end a session': async (page) => {
    await page.goto(address({ name: 'sessions', path: '/account/u/did:plc:ewvi7nxzyoun6zhxrhs64oiz/sessions' }))
    await page.locator('button[name=end]').nth(1).focus()
    const got = await posted(page, () => page.keyboard.press('Space'))
    return differs(got, { csrf: ['dG9rZW4'], end: ['session 12'] })
  },
  'take a permission away': async (page) => {
    await page.goto(address({ name: 'apps', path: '/account/u/did:plc:ewvi7nxzyoun6zhxrhs64oiz/apps' }))
    await page.locator('button[name=take]').first().focus()
    const got = await posted(page, () => page.keyboard.press('Enter'))
    return differs(got, { take: ['https://statusphere.example.net/oauth-client-metadata.json repo:xyz.statusphere.status'], end: undefined })
  },
  'stop trusting a browser': async (page) => {
    await page.goto(address({ name: 'devices', path: '/account/u/did:plc:ewvi7nxzyoun6zhxrhs64oiz/devices' }))
    await page.locator('button[name=untrust]').nth(1).focus()
    const got = await posted(page, () => page.keyboard.press('Enter'))
    return differs(got, { untrust: ['browser 3'], end: undefined })
  },
  'make an app password': async (page) => {
    await page.goto(address({ name: 'app-passwords-none', path: '/account/u/did:plc:ewvi7nxzyoun6zhxrhs64oiz/app-passwords' }))
    await page.locator('#name').focus()
    await page.keyboard.type('my bot')
    await page.keyboard.press('Tab')
    await page.keyboard.press('Space')
    await page.keyboard.press('Tab')
    const got = await posted(page, () => page.keyboard.press('Enter'))
    return differs(got, { name: ['my bot'], privileged: ['on'], decision: ['make'] })
  },
  'this was not me': async (page) => {
    await page.goto(address({ name: 'events', path: '/account/u/did:plc:ewvi7nxzyoun6zhxrhs64oiz/events' }))
    await page.locator('button[name=end]').first().focus()
    const got = await posted(page, () => page.keyboard.press('Enter'))
    return differs(got, { end: ['session 12'], not_me: ['on'] })
  },
  'change the language': async (page) => {
    await page.goto(address({ name: 'signin-app', path: '/oauth/authorize' }))
    await page.locator('button[lang=de]').focus()
    const got = await posted(page, () => page.keyboard.press('Enter'))
    return differs(got, { lang: ['de'], next: ['/oauth/authorize?client_id=x&request_uri=y'] })
  },
}

// withScripts are stories about what the scripts add.
const withScripts = {
  'show the password, and hide it before it is sent': async (page) => {
    await page.goto(address({ name: 'signin', path: '/account/sign-in' }))
    await page.locator('#password').fill('secret')
    await page.locator('[data-reveal]').check()
    if (await page.locator('#password').getAttribute('type') !== 'text') return ['the password is not shown']
    await posted(page, () => page.locator('button[value=sign-in]').click())
    return []
  },
  'the code of a link': async (page) => {
    await page.goto(address({ name: 'reset-code', path: '/account/reset-password' }) + '#code=ABCDE-23456')
    const code = await page.locator('#code').inputValue()
    const focus = await page.evaluate(() => document.activeElement.id)
    return [...(code === 'ABCDE-23456' ? [] : [`the field has ${code}`]), ...(page.url().includes('#') ? ['the address still has the code'] : []), ...(focus === 'new_password' ? [] : [`the focus is on ${focus}`])]
  },
  'local times': async (page) => {
    await page.goto(address({ name: 'accounts-one', path: '/account' }))
    const text = await page.locator('time').first().textContent()
    return text.includes('UTC') ? ['the times are not local'] : []
  },
  'two clicks send once': async (page) => {
    let posts = 0
    await page.goto(address({ name: 'confirm', path: '/account/u/did:plc:ewvi7nxzyoun6zhxrhs64oiz/sessions' }))
    page.on('request', (r) => { if (r.method() === 'POST') posts++ })
    await posted(page, () => page.evaluate(() => { const b = document.querySelector('button[value=confirm]'); setTimeout(() => { b.click(); b.click() }) }))
    return posts === 1 ? [] : [`${posts} posts`]
  },
  'a passkey signs in': async (page) => {
    const client = await page.context().newCDPSession(page)
    await client.send('WebAuthn.enable', { enableUI: false })
    await client.send('WebAuthn.addVirtualAuthenticator', { options: { protocol: 'ctap2', transport: 'internal', hasResidentKey: true, hasUserVerification: true, isUserVerified: true, automaticPresenceSimulation: true } })
    await page.goto(local(address({ name: 'passkey-add', path: '/account/u/did:plc:ewvi7nxzyoun6zhxrhs64oiz/security' })))
    const made = await posted(page, () => page.locator('[data-passkey-button]').click())
    const attestation = JSON.parse(made.credential[0])
    await page.goto(local(address({ name: 'factor-passkey', path: '/oauth/authorize' })))
    const used = await posted(page, () => page.locator('[data-passkey-button]').click())
    const assertion = JSON.parse(used.credential[0])
    return [
      ...differs(made, { decision: ['add'], ceremony: ['c2VhbGVk'] }), ...differs(used, { decision: ['continue'] }),
      ...(attestation.response.attestationObject ? [] : ['no attestation']),
      ...(assertion.id === attestation.id && assertion.response.signature && assertion.response.userHandle === 'c2FtcGxl' ? [] : ['no assertion of that passkey']),
    ]
  },
}

const withoutScripts = {
  'nothing that needs a script is shown': async (page) => {
    const found = []
    for (const name of ['signin', 'factor-passkey', 'passkey-add', 'recovery-codes', 'totp-setup']) {
      const sample = task.samples.find((s) => s.name === name)
      await page.goto(address(sample))
      for (const e of await page.locator('[data-script]').all()) {
        if (await e.isVisible()) found.push(`${name} shows ${(await e.textContent()).trim()}`)
      }
    }
    return found
  },
  'form_post has a button': async (page) => {
    await page.goto(address({ name: 'formpost', path: '/oauth/authorize' }))
    const got = await posted(page, () => page.locator('form[data-submit] button').click())
    return differs(got, { code: ['x'], state: ['y'] })
  },
}

const shoot = async (browser, samples) => {
  for (const colorScheme of ['light', 'dark']) {
    for (const width of [360, 1280]) {
      const context = await browser.newContext({ locale: 'en', colorScheme, viewport: { width, height: 760 }, timezoneId: 'Europe/Berlin', javaScriptEnabled: true })
      const page = await context.newPage()
      await page.route('**/submit.js', (route) => route.abort())
      await page.route('https://**', (route) => route.abort())
      for (const sample of samples) {
        await page.goto(address(sample), { waitUntil: 'load' })
        await page.screenshot({ path: `${task.shots}/${sample.name}-${width}-${colorScheme}.png`, fullPage: true })
      }
      await context.close()
    }
  }
}

const play = async (context, some, suffix) => {
  for (const [name, story] of Object.entries(some)) {
    const { page, faults } = await watch(context)
    const found = await story(page).catch((error) => [String(error)])
    report(`story: ${name}${suffix}`, [...found, ...faults])
    await page.close()
  }
}

const browser = await chromium.launch({ executablePath: task.chromium, args: ['--no-sandbox', '--disable-gpu', '--lang=en'] })
try {
  const samples = task.samples.map((s) => ({ name: s.Name, path: s.Path })).filter((s) => !task.only || s.name.startsWith(task.only))
  task.samples = samples
  if (task.shots) await shoot(browser, samples)
  // reducedMotion: a transition that is under way would be measured.
  const english = await browser.newContext({ locale: 'en', reducedMotion: 'reduce' })
  const pseudo = await browser.newContext({ locale: 'en-XA', reducedMotion: 'reduce', viewport: { width: 320, height: 640 } })
  const queue = [...samples]
  const worker = async () => {
    const [plain, long] = [await watch(english), await watch(pseudo)]
    for (let sample; (sample = queue.shift());) {
      try {
        const found = await look(plain, sample)
        found.push(...await inPseudo(long, sample), ...await focused(long, sample))
        report(sample.name, found)
      } catch (error) {
        report(sample.name, [String(error)])
      }
    }
  }
  await Promise.all([worker(), worker()])
  if (!task.only) {
    await play(english, { ...stories, ...withScripts }, '')
    const bare = await browser.newContext({ locale: 'en', javaScriptEnabled: false })
    await play(bare, { ...stories, ...withoutScripts }, ', without scripts')
  }
} finally {
  await browser.close()
}
