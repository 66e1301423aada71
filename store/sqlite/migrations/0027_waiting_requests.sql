-- Requests that wait are counted by client, opened or not.
DROP INDEX oauth_request_unopened;
CREATE INDEX oauth_request_waiting ON oauth_request (client_id, expires) WHERE redeemed_at IS NULL;
