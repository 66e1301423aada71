-- Which keys one network reserved: a keyed hash of the network, empty for older keys.
ALTER TABLE reserved_key ADD COLUMN sender BLOB NOT NULL DEFAULT x'';
