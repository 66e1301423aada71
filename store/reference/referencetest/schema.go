package referencetest

// The tables of @atproto/pds 0.5.35, as its migrations make them.
const (
	migrationTables = `CREATE TABLE kysely_migration (name varchar(255) NOT NULL PRIMARY KEY, timestamp varchar(255) NOT NULL);
CREATE TABLE kysely_migration_lock (id varchar(255) NOT NULL PRIMARY KEY, is_locked integer DEFAULT 0 NOT NULL);
INSERT INTO kysely_migration_lock VALUES ('migration_lock', 0);
`
	accountTables = migrationTables + `INSERT INTO kysely_migration VALUES ('001', ''), ('002', ''), ('003', ''), ('004', ''), ('005', ''), ('006', ''), ('007', '');
CREATE TABLE app_password (did varchar NOT NULL, name varchar NOT NULL, passwordScrypt varchar NOT NULL, createdAt varchar NOT NULL,
	privileged integer DEFAULT 0 NOT NULL, CONSTRAINT app_password_pkey PRIMARY KEY (did, name));
CREATE TABLE invite_code (code varchar PRIMARY KEY, availableUses integer NOT NULL, disabled int2 DEFAULT 0, forAccount varchar NOT NULL,
	createdBy varchar NOT NULL, createdAt varchar NOT NULL);
CREATE INDEX invite_code_for_account_idx ON invite_code (forAccount);
CREATE TABLE invite_code_use (code varchar NOT NULL, usedBy varchar NOT NULL, usedAt varchar NOT NULL,
	CONSTRAINT invite_code_use_pkey PRIMARY KEY (code, usedBy));
CREATE TABLE refresh_token (id varchar PRIMARY KEY, did varchar NOT NULL, expiresAt varchar NOT NULL, nextId varchar,
	appPasswordName varchar);
CREATE INDEX refresh_token_did_idx ON refresh_token (did);
CREATE TABLE repo_root (did varchar PRIMARY KEY, cid varchar NOT NULL, rev varchar NOT NULL, indexedAt varchar NOT NULL);
CREATE TABLE actor (did varchar PRIMARY KEY, handle varchar, createdAt varchar NOT NULL, takedownRef varchar, deactivatedAt varchar,
	deleteAfter varchar);
CREATE UNIQUE INDEX actor_handle_lower_idx ON actor (lower(handle));
CREATE INDEX actor_cursor_idx ON actor (createdAt, did);
CREATE TABLE account (did varchar PRIMARY KEY, email varchar NOT NULL, passwordScrypt varchar NOT NULL, emailConfirmedAt varchar,
	invitesDisabled int2 DEFAULT 0 NOT NULL);
CREATE UNIQUE INDEX account_email_lower_idx ON account (lower(email));
CREATE TABLE email_token (purpose varchar NOT NULL, did varchar NOT NULL, token varchar NOT NULL, requestedAt varchar NOT NULL,
	CONSTRAINT email_token_pkey PRIMARY KEY (purpose, did), CONSTRAINT email_token_purpose_token_unique UNIQUE (purpose, token));
CREATE TABLE authorization_request (id varchar PRIMARY KEY, did varchar, deviceId varchar, clientId varchar NOT NULL,
	clientAuth varchar NOT NULL,
	parameters varchar NOT NULL, expiresAt varchar NOT NULL, code varchar);
CREATE TABLE device (id varchar PRIMARY KEY, sessionId varchar NOT NULL, userAgent varchar, ipAddress varchar NOT NULL,
	lastSeenAt varchar NOT NULL,
	CONSTRAINT device_session_id_idx UNIQUE (sessionId));
CREATE TABLE device_account (did varchar NOT NULL, deviceId varchar NOT NULL, authenticatedAt varchar NOT NULL, remember boolean NOT NULL,
	authorizedClients varchar NOT NULL, CONSTRAINT device_account_pk PRIMARY KEY (deviceId, did));
CREATE TABLE token (id integer PRIMARY KEY AUTOINCREMENT, did varchar NOT NULL, tokenId varchar NOT NULL, createdAt varchar NOT NULL,
	updatedAt varchar NOT NULL, expiresAt varchar NOT NULL, clientId varchar NOT NULL, clientAuth varchar NOT NULL, deviceId varchar,
	parameters varchar NOT NULL, details varchar, code varchar, currentRefreshToken varchar, scope varchar,
	CONSTRAINT token_current_refresh_token_unique_idx UNIQUE (currentRefreshToken), CONSTRAINT token_id_unique_idx UNIQUE (tokenId));
CREATE TABLE used_refresh_token (refreshToken varchar PRIMARY KEY, tokenId integer NOT NULL REFERENCES token (id) ON DELETE CASCADE);
CREATE TABLE account_device (did varchar NOT NULL REFERENCES account (did) ON DELETE CASCADE,
	deviceId varchar NOT NULL REFERENCES device (id) ON DELETE CASCADE,
	createdAt varchar NOT NULL, updatedAt varchar NOT NULL, CONSTRAINT account_device_pk PRIMARY KEY (deviceId, did));
CREATE TABLE authorized_client (did varchar NOT NULL REFERENCES account (did) ON DELETE CASCADE, clientId varchar NOT NULL,
	createdAt varchar NOT NULL,
	updatedAt varchar NOT NULL, data varchar NOT NULL, CONSTRAINT authorized_client_pk PRIMARY KEY (did, clientId));
CREATE TABLE lexicon (nsid varchar PRIMARY KEY, createdAt varchar NOT NULL, updatedAt varchar NOT NULL, lastSucceededAt varchar,
	uri varchar, lexicon varchar);
`
	eventTables = migrationTables + `INSERT INTO kysely_migration VALUES ('001', '');
CREATE TABLE repo_seq (seq integer PRIMARY KEY AUTOINCREMENT, did varchar NOT NULL, eventType varchar NOT NULL, event blob NOT NULL,
	invalidated int2 DEFAULT 0 NOT NULL, sequencedAt varchar NOT NULL);
CREATE INDEX repo_seq_did_idx ON repo_seq (did);
CREATE INDEX repo_seq_event_type_idx ON repo_seq (eventType);
CREATE INDEX repo_seq_sequenced_at_index ON repo_seq (sequencedAt);
`
	documentTables = migrationTables + `INSERT INTO kysely_migration VALUES ('001', '');
CREATE TABLE did_doc (did varchar PRIMARY KEY, doc text NOT NULL, updatedAt bigint NOT NULL);
`
	actorTables = migrationTables + `INSERT INTO kysely_migration VALUES ('001', '');
CREATE TABLE repo_root (did varchar PRIMARY KEY, cid varchar NOT NULL, rev varchar NOT NULL, indexedAt varchar NOT NULL);
CREATE TABLE repo_block (cid varchar PRIMARY KEY, repoRev varchar NOT NULL, size integer NOT NULL, content blob NOT NULL);
CREATE INDEX repo_block_repo_rev_idx ON repo_block (repoRev, cid);
CREATE TABLE record (uri varchar PRIMARY KEY, cid varchar NOT NULL, collection varchar NOT NULL, rkey varchar NOT NULL,
	repoRev varchar NOT NULL,
	indexedAt varchar NOT NULL, takedownRef varchar);
CREATE INDEX record_cid_idx ON record (cid);
CREATE INDEX record_collection_idx ON record (collection);
CREATE INDEX record_repo_rev_idx ON record (repoRev);
CREATE TABLE blob (cid varchar PRIMARY KEY, mimeType varchar NOT NULL, size integer NOT NULL, tempKey varchar, width integer,
	height integer,
	createdAt varchar NOT NULL, takedownRef varchar);
CREATE INDEX blob_tempkey_idx ON blob (tempKey);
CREATE TABLE record_blob (blobCid varchar NOT NULL, recordUri varchar NOT NULL, CONSTRAINT record_blob_pkey PRIMARY KEY (blobCid,
	recordUri));
CREATE TABLE backlink (uri varchar NOT NULL, path varchar NOT NULL, linkTo varchar NOT NULL, CONSTRAINT backlinks_pkey PRIMARY KEY (uri,
	path));
CREATE INDEX backlink_link_to_idx ON backlink (path, linkTo);
CREATE TABLE account_pref (id integer PRIMARY KEY AUTOINCREMENT, name varchar NOT NULL, valueJson text NOT NULL);
`
)
