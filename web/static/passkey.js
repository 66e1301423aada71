// Passkeys: asks the browser for one and puts its answer into the form.
'use strict'
const bytes = (text) => Uint8Array.from(atob(text.replace(/-/g, '+').replace(/_/g, '/')), (c) => c.charCodeAt(0))
const text = (buffer) => buffer && btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, '-').replace(/\//g, '_').replace(/=+$/, '')

// The options have bytes as base64url (WebAuthn level 3, section 5.1.8).
const decode = (options) => {
  const key = { ...options, challenge: bytes(options.challenge) }
  if (key.user) key.user = { ...key.user, id: bytes(key.user.id) }
  for (const list of ['allowCredentials', 'excludeCredentials']) {
    if (key[list]) key[list] = key[list].map((one) => ({ ...one, id: bytes(one.id) }))
  }
  return key
}

const encode = (credential) => {
  const from = credential.response
  const response = { clientDataJSON: text(from.clientDataJSON) }
  for (const part of ['attestationObject', 'authenticatorData', 'signature', 'userHandle']) {
    if (from[part]) response[part] = text(from[part])
  }
  if (from.getTransports) response.transports = from.getTransports()
  return {
    id: credential.id,
    rawId: text(credential.rawId),
    type: credential.type,
    authenticatorAttachment: credential.authenticatorAttachment ?? undefined,
    clientExtensionResults: credential.getClientExtensionResults(),
    response,
  }
}

const prepare = (form) => {
  const button = form.querySelector('[data-passkey-button]')
  const fault = form.querySelector('[data-passkey-error]')
  if (!window.PublicKeyCredential || !navigator.credentials) {
    button.parentElement.remove()
    return
  }
  const publicKey = () => decode(JSON.parse(form.dataset.options).publicKey)
  let waiting = null // the offer in the identifier field, which a click ends

  const answer = (credential) => {
    form.elements.credential.value = JSON.stringify(encode(credential))
    const press = document.createElement('button')
    press.name = 'decision'
    press.value = button.dataset.decision
    press.formNoValidate = true
    press.hidden = true
    form.append(press)
    form.requestSubmit(press)
  }

  button.addEventListener('click', async () => {
    fault.hidden = true
    button.disabled = true
    waiting?.abort()
    try {
      const options = { publicKey: publicKey() }
      answer(await (form.dataset.passkey === 'create' ? navigator.credentials.create(options) : navigator.credentials.get(options)))
    } catch {
      fault.hidden = false
    } finally {
      button.disabled = false
    }
  })

  const offer = async () => {
    if (!('conditional' in form.dataset) || !await PublicKeyCredential.isConditionalMediationAvailable?.()) return
    waiting = new AbortController()
    try {
      answer(await navigator.credentials.get({ publicKey: publicKey(), mediation: 'conditional', signal: waiting.signal }))
    } catch {
      // Nobody chose one.
    }
  }
  offer()
}

for (const form of document.querySelectorAll('form[data-passkey]')) prepare(form)
