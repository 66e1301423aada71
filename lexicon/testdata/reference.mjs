// Says of each line of its input, {collection, record}, what the schemas of the
// reference PDS say of the record: a line of JSON, null where it is valid. The
// argument is the folder where the reference is installed.
import { createInterface } from 'node:readline'
import { join } from 'node:path'

const at = (path) => join(process.argv[2], 'node_modules', '@atproto', path, 'dist', 'index.js')
const { RecordSchema, walk } = await import(at('lex'))
const { lexParse } = await import(at('lex-json'))
const lexicons = await import(at('pds').replace('index.js', join('lexicons', 'index.js')))
const schemas = new Map(walk(lexicons).filter((s) => s instanceof RecordSchema).map((s) => [s.$type, s]))

for await (const line of createInterface({ input: process.stdin })) {
  const { collection, record } = lexParse(line)
  const result = schemas.get(collection).safeValidate(record, { path: ['record'] })
  console.log(JSON.stringify(result.success ? null : result.reason.message))
}
