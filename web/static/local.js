// What a script can add: times in local time, "Copy", "Print", "Show password", the code
// from a link's fragment, and double clicks that count once. Every page works without.
'use strict'
const all = (selector) => document.querySelectorAll(selector)

for (const element of all('[data-script]')) element.hidden = false
for (const element of all('[data-no-script]')) element.hidden = true

const clock = new Intl.DateTimeFormat(document.documentElement.lang, { dateStyle: 'medium', timeStyle: 'short' })
for (const time of all('time[datetime]')) {
  const at = new Date(time.dateTime)
  if (Number.isNaN(at.valueOf())) continue
  time.title = time.textContent
  time.textContent = clock.format(at)
}

for (const tick of all('[data-reveal]')) {
  tick.addEventListener('change', () => {
    document.getElementById(tick.dataset.reveal).type = tick.checked ? 'text' : 'password'
  })
}

for (const button of all('[data-copy]')) {
  if (!navigator.clipboard) {
    button.hidden = true // a page without https
    continue
  }
  const label = button.textContent
  button.addEventListener('click', async () => {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).innerText.trim())
    button.textContent = button.dataset.copied
    setTimeout(() => { button.textContent = label }, 3000)
  })
}
for (const button of all('[data-print]')) button.addEventListener('click', () => window.print())

// The mail's link has the code in its fragment, which browsers send to no server.
for (const place of all('[data-fragment]')) {
  const value = new URLSearchParams(location.hash.slice(1)).get(place.dataset.fragment)
  if (!value) continue
  place.querySelector('input').value = value
  history.replaceState(null, '', location.pathname + location.search)
  document.querySelector('input[type=password]')?.focus()
}

// A password that is shown is hidden before it is sent: browsers would keep it as text.
let sent = false
document.addEventListener('submit', (event) => {
  if (event.submitter?.formMethod === 'dialog') return // it sends nothing
  if (sent && !event.defaultPrevented) {
    event.preventDefault()
    return
  }
  for (const tick of all('[data-reveal]')) document.getElementById(tick.dataset.reveal).type = 'password'
  sent = true
  setTimeout(() => { sent = false }, 5000) // an answer that never comes can be asked for again
})
window.addEventListener('pageshow', () => { sent = false })
