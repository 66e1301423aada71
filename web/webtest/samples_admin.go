package webtest

import "nestbox/web"

// deskFrame is what the pages below /admin have in common.
func deskFrame(path string, problems ...web.Problem) web.Frame {
	f := place(path, problems...)
	f.Desk = &web.DeskFrame{
		Who: web.Msg("desk.who-admin"), Role: web.Msg("desk.role-admin"), SignOut: "dG9rZW4",
		Groups: []web.NavGroup{{Title: web.Msg("desk.group-people"), Items: []web.NavItem{
			{Href: "/admin/", Text: web.Msg("desk.part-start"), Current: path == web.DeskPath},
		}}},
	}
	return f
}

func desks() []Sample {
	key := &web.Passkey{Options: options, Ceremony: "c2VhbGVk", Conditional: true}
	const in = "/admin/sign-in"
	return []Sample{
		{"admin-signin", in, 200, &web.AdminSignIn{Frame: place(in), Passkey: key}},
		{"admin-signin-wrong", in, 422, &web.AdminSignIn{Frame: place(in, wrong("password", "desk.signin-wrong")), Name: "admin"}},
		{"admin-start", web.DeskPath, 200, &web.Desk{
			Frame: deskFrame(web.DeskPath), Title: web.Msg("desk.part-start"), Lead: web.Msg("desk.start-lead", "host", web.Name("pds.example.com")),
			Sections: []web.Section{{Title: web.Msg("desk.server"), Facts: []web.Fact{{Label: web.Msg("desk.version"), Values: []any{web.Name("1.4.0")}}}}},
		}},
	}
}
