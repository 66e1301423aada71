// The scripts' side of clients_test.go: one JSON line out for each step, and
// for each thing that only the test can do; its answer is one JSON line in.
import { createInterface } from 'node:readline'

const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]()

const say = (line) => process.stdout.write(JSON.stringify(line) + '\n')

// ask has the test do something and returns what it answers.
export async function ask(what, argument = '') {
  say({ ask: what, argument })
  const { value, done } = await answers.next()
  if (done) throw new Error(`no answer to ${what}`)
  return JSON.parse(value)
}

// step runs one step and reports how it went. A failed one ends nothing: the
// steps do not build on each other.
export async function step(name, run) {
  try {
    await run()
    say({ step: name })
  } catch (e) {
    say({ step: name, error: e?.stack ?? String(e) })
  }
}

// finish says that no step is left.
export function finish() {
  say({ finished: true })
  process.exit(0) // the clients keep connections open
}
