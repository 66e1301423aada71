// The real PLC directory, in memory, on a free loopback port. Its own start()
// would listen on every interface.
import { createServer } from 'node:http'
import plc from '@did-plc/server'

const { app } = plc.PlcServer.create({ db: plc.Database.mock(), version: 'test' })
const server = createServer(app).listen(0, '127.0.0.1', () => {
  process.stdout.write(`READY http://localhost:${server.address().port}\n`)
})
