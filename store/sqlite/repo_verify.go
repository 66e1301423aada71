package sqlite

// live are the repositories of accounts: each is whole, as is what an import
// has staged so far. One that Sweep removes may lack anything.
const live = "(SELECT p.*, a.did FROM repo p JOIN account a ON a.id = p.account_id)"

// eachNode makes each row of node find its repository, by number. The other way
// round SQLite would go through all nodes for each repository.
const eachNode = `SELECT a.did, n.id & 0xffffffff FROM node n CROSS JOIN repo r ON r.id = n.id >> 32
			CROSS JOIN account a ON a.id = r.account_id WHERE r.current = 1`

// repoInvariants are invariants of repositories, as far as the rows show them.
var repoInvariants = []invariant{
	{"repository without a commit", `SELECT did FROM ` + live + ` WHERE current = 1
			AND (cid IS NULL OR commit_block IS NULL OR root_cid IS NULL OR rev = '')`},
	{"import that is a commit already", `SELECT id FROM repo WHERE current <> 1 AND (current <> 0 OR cid IS NOT NULL)`},
	{"repository counts its records wrong", `SELECT did FROM ` + live + ` r
			WHERE records <> (SELECT count(*) FROM record WHERE repo_id = r.id)`},
	{"repository counts its blobs wrong", `SELECT did FROM ` + live + ` r
			WHERE blobs <> (SELECT count(DISTINCT cid) FROM blob_ref WHERE repo_id = r.id)`},
	{"repository without its root", `SELECT did FROM ` + live + ` r
			WHERE current = 1 AND NOT EXISTS (SELECT 1 FROM node WHERE node.id = r.id << 32 | r.root_id)`},
	{"node that is not numbered below the next", eachNode + ` AND n.id & 0xffffffff NOT BETWEEN 1 AND r.next_node - 1`},
	{"node is newer than its repository", eachNode + ` AND n.rev > r.rev`},
	{"record is newer than its repository", `SELECT r.did, c.key FROM ` + live + ` r JOIN record c ON c.repo_id = r.id
			WHERE r.current = 1 AND c.rev > r.rev`},
	{"repository without a first revision, or with one that is newer than its commit", `SELECT did FROM ` + live + ` WHERE current = 1
			AND (first_rev = '' OR first_rev > rev OR removed_rev > rev)`},
	{"record is older than its repository's first revision", `SELECT r.did, c.key FROM ` + live + ` r JOIN record c ON c.repo_id = r.id
			WHERE r.current = 1 AND c.rev < r.first_rev`},
	{"node of no repository", `SELECT DISTINCT id >> 32 FROM node WHERE id >> 32 NOT IN (SELECT id FROM repo)`},
	{"record of no repository", `SELECT DISTINCT repo_id FROM record WHERE repo_id NOT IN (SELECT id FROM repo)`},
	{"reference to a blob of no repository", `SELECT DISTINCT repo_id FROM blob_ref WHERE repo_id NOT IN (SELECT id FROM repo)`},
	{"record without its large block", `SELECT (SELECT did FROM ` + live + ` p WHERE p.id = c.repo_id), c.key FROM record c
			WHERE c.block_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM record_block b WHERE b.id = c.block_id)`},
	{"large block that is not one record's", `SELECT b.id FROM record_block b LEFT JOIN
			(SELECT block_id, count(*) AS n FROM record WHERE block_id IS NOT NULL GROUP BY block_id) c ON c.block_id = b.id
			WHERE c.n IS NOT 1`},
	{"reference to a blob by no record of that revision", `SELECT r.did, b.key, b.cid FROM ` + live + ` r JOIN blob_ref b ON b.repo_id = r.id
			WHERE NOT EXISTS (SELECT 1 FROM record c WHERE c.repo_id = r.id AND c.key = b.key AND c.rev = b.rev)`},
	{"blob is used and not marked so, or the other way round", `SELECT a.did, b.cid FROM blob b JOIN account a ON a.id = b.account_id
			WHERE (b.unused_since IS NULL) <> EXISTS (SELECT 1 FROM repo r JOIN blob_ref f ON f.repo_id = r.id AND f.cid = b.cid
			WHERE r.account_id = b.account_id AND r.current = 1)`},
	{"blob of no account", `SELECT account_id, cid FROM blob WHERE account_id NOT IN (SELECT id FROM account)
			AND account_id NOT IN (SELECT account_id FROM blob_orphaned)`},
	{"blob is used and never was", `SELECT a.did, b.cid FROM blob b JOIN account a ON a.id = b.account_id
			WHERE unused_since IS NULL AND was_used <> 1`},
}
