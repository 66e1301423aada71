package metrics

import (
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"nestbox/request"
)

// otherRoute and otherMethod stand for what is not the server's own.
const (
	otherRoute  = "other"
	otherMethod = "_OTHER" // OpenTelemetry's word
)

// A series of each bucket belongs to each set of labels, 17 in all. So the sets are few,
// whatever clients do: mostSets in all, and of them a part of what they can provoke, by the
// class of the status. What finds no room is counted as otherRoute, and there, if need be, with
// the first status of its class.
const (
	mostSets    = 88
	mostRefused = 12 // of 4xx on routes of our own
	mostFailed  = 12 // of 5xx on routes of our own
	mostOther   = 10 // of otherRoute, besides the last resort
)

// labels is a set of them.
type labels struct {
	method, route string
	status        int
}

// requests counts requests. Those who count take no lock once a set is known.
type requests struct {
	histogram *prometheus.HistogramVec

	known atomic.Pointer[map[labels]prometheus.Observer]

	mu                     sync.Mutex
	refused, failed, other int
}

func newRequests() *requests {
	r := &requests{histogram: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "http_server_request_duration_seconds", Help: "Time that requests took, without streams.", Buckets: httpBuckets(),
	}, []string{"http_request_method", "http_route", "http_response_status_code"})}
	r.known.Store(&map[labels]prometheus.Observer{})
	return r
}

// ended counts a request, unless it became a stream.
func (r *requests) ended(o request.Outcome) {
	if o.Status < http.StatusOK {
		return
	}
	set := labels{methodOf(o.Method), o.Route, o.Status}
	if set.route == "" {
		set.route = otherRoute
	}
	observer, ok := (*r.known.Load())[set]
	if !ok {
		observer = r.admit(set)
	}
	observer.Observe(o.Took.Seconds())
}

// methodOf returns a method's word.
func methodOf(method string) string {
	switch method {
	case http.MethodGet, http.MethodPost, http.MethodHead, http.MethodOptions:
		return method
	default:
		return otherMethod
	}
}

// admit returns what counts a set that was not known, or the set that stands for it.
func (r *requests) admit(set labels) prometheus.Observer {
	r.mu.Lock()
	defer r.mu.Unlock()
	known := *r.known.Load()
	for _, one := range [...]labels{
		set, {set.method, otherRoute, set.status}, {otherMethod, otherRoute, min(set.status/100, 5) * 100}, //nolint:mnd // its class
	} {
		if observer, ok := known[one]; ok {
			return observer
		}
		if room := r.room(one, len(known)); room != nil {
			*room++
			one.method, one.route = strings.Clone(one.method), strings.Clone(one.route) // not all of the client's request
			observer := r.histogram.WithLabelValues(one.method, one.route, strconv.Itoa(one.status))
			next := maps.Clone(known)
			next[one] = observer
			r.known.Store(&next)
			return observer
		}
	}
	panic("metrics: the last resort has room")
}

// room returns the count that a set which may be added belongs to, nil if it may not.
func (r *requests) room(set labels, known int) *int {
	last := set.route == otherRoute && set.method == otherMethod && set.status%100 == 0
	count, most := new(int), mostSets
	switch {
	case last:
		return count
	case set.route == otherRoute:
		count, most = &r.other, mostOther
	case set.status >= http.StatusInternalServerError:
		count, most = &r.failed, mostFailed
	case set.status >= http.StatusBadRequest:
		count, most = &r.refused, mostRefused
	}
	if *count >= most || known >= mostSets {
		return nil
	}
	return count
}
