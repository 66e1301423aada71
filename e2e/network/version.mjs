// Imported first: on an older Node the packages fail with errors that do not say why.
if (Number(process.versions.node.split('.')[0]) < 22) throw new Error(`Node 22 is missing: the AppView needs it, this is ${process.version}`)
