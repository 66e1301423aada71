package web

import (
	"net/url"
	"strconv"
)

// Pager leads from one part of a long list to the next. The zero Pager is of a list that
// fits on a page.
type Pager struct {
	// Page counts from 1, of Pages.
	Page, Pages int
	// Newer and Older are the addresses of the parts beside this one; empty for none.
	Newer, Older string
}

// paged returns the part of a list, size rows at most, that the request's ?page= names.
func paged[T any](q *query, all []T, size int) ([]T, Pager) {
	p := Pager{Pages: max(1, (len(all)+size-1)/size)}
	n, _ := strconv.Atoi(q.r.URL.Query().Get("page")) // anything else is the first page
	p.Page = min(max(n, 1), p.Pages)
	to := func(page int) string {
		if page < 1 || page > p.Pages {
			return ""
		}
		query := url.Values{}
		for _, name := range []string{"kind", "about"} {
			if v := q.r.URL.Query().Get(name); v != "" {
				query.Set(name, v)
			}
		}
		query.Set("page", strconv.Itoa(page))
		return q.r.URL.Path + "?" + query.Encode()
	}
	p.Newer, p.Older = to(p.Page-1), to(p.Page+1)
	return all[min((p.Page-1)*size, len(all)):min(p.Page*size, len(all))], p
}
