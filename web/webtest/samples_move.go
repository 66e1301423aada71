package webtest

import (
	"time"

	"nestbox/moving"
	"nestbox/web"
)

const signingKey = "did:key:zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme"

// moveLines are the list of an account that is moving in, with each tone.
func moveLines() []web.MoveLine {
	line := func(kind web.Kind, name string, says web.Text) web.MoveLine {
		return web.MoveLine{Kind: kind, Name: web.Msg("move.line-" + name), Says: says}
	}
	return []web.MoveLine{
		line(web.Success, "repository", web.Msg("move.repository-is", "revision", web.Name("3lc7yqxkjxk2k"))),
		line(web.Success, "records", web.Msg("move.records-is", "n", web.Count(12_345))),
		line(web.Warning, "blobs", web.Msg("move.blobs-lacks", "some", web.Count(213), "all", web.Count(812))),
		line(web.Warning, "preferences", web.Msg("move.preferences-lacks")),
		line(web.Failure, "server", web.Msg("move.server-other", "server", web.Stranger("https://old.example.com"))),
		line(web.Failure, "key", web.Msg("move.key-other")),
		line(web.Success, "handle", web.Msg("move.right")),
		line(web.Failure, "rotation", web.Msg("move.rotation-lacks")),
		line(web.Warning, "state", web.Msg("move.state-lacks")),
	}
}

// moveIn is the page of an account that is moving in, with work in each state.
func moveIn() *web.Move {
	job := func(id int64, kind moving.Kind, state moving.State, p moving.Progress, fault string) web.MoveJob {
		return web.MoveJob{Job: moving.Job{ID: id, Kind: kind, Source: "https://old.example.com", State: state, Progress: p, Error: fault, ChangedAt: at(day)}}
	}
	lacking := []moving.Lacking{}
	for _, why := range []moving.Reason{moving.Gone, moving.Unreadable, moving.Damaged, moving.TooLarge, moving.TakenDown} {
		lacking = append(lacking, moving.Lacking{CID: "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku", Record: "app.bsky.feed.post/3lc7yqxkjxk2k", Why: why})
	}
	waiting := func(j web.MoveJob, due time.Time) web.MoveJob {
		j.Waits, j.Due = true, due
		return j
	}
	return &web.Move{
		Frame: of(asleep(), "move"), Lines: moveLines(), Elsewhere: "https://old.example.com", Source: "https://old.example.com", Working: true,
		PLC: true, Others: 2, Server: "https://pds.example.com", SigningKey: signingKey, RotationKeys: []string{signingKey},
		Operation: "{\n  \"rotationKeys\": [\n    \"" + signingKey + "\"\n  ],\n  \"alsoKnownAs\": [\n    \"at://alice.example.com\"\n  ]\n}",
		Jobs: []web.MoveJob{
			waiting(job(8, moving.FetchBlobs, moving.Open, moving.Progress{Got: 1, Total: 812}, ""), at(-time.Hour)),
			waiting(job(7, moving.FetchRepo, moving.Open, moving.Progress{}, ""), time.Time{}),
			job(6, moving.FetchBlobs, moving.Open, moving.Progress{Got: 213, Total: 812, Bytes: 99 << 20}, ""),
			job(5, moving.FetchBlobs, moving.Done, moving.Progress{Got: 213, Total: 812, Lacking: lacking, LackingAll: 140}, ""),
			job(4, moving.FetchRepo, moving.Done, moving.Progress{Bytes: 9 << 20, Records: 12_345}, ""),
			job(3, moving.FetchRepo, moving.Broken, moving.Progress{Bytes: 9 << 20}, "network timed out"),
			job(2, moving.FetchRepo, moving.Cancelled, moving.Progress{}, ""),
		},
	}
}
