package directory

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	didplc "github.com/did-method-plc/go-didplc"

	"nestbox/plc"
)

// maxBody bounds a submitted operation: its CBOR may have 7,500 bytes.
const maxBody = 32 << 10

// maxExport is the most lines of one export, as in the real directory.
const maxExport = 1000

// timeLayout is JavaScript's toISOString.
const timeLayout = "2006-01-02T15:04:05.000Z"

// Handler serves the HTTP interface of a PLC directory.
func (d *Directory) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /_health", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, map[string]string{"version": "nestbox"})
	})
	mux.HandleFunc("GET /export", d.serveExport)
	mux.HandleFunc("GET /{did}", d.withLog(serveDocument))
	mux.HandleFunc("GET /{did}/data", d.withLog(serveData))
	mux.HandleFunc("GET /{did}/log", d.withLog(serveLog))
	mux.HandleFunc("GET /{did}/log/last", d.withLog(serveLast))
	mux.HandleFunc("GET /{did}/log/audit", d.withLog(serveAudit))
	mux.HandleFunc("POST /{did}", d.serveSubmit)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", "*")
		mux.ServeHTTP(w, r)
	})
}

func reply(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		status, body = http.StatusInternalServerError, []byte(`{"message":"Internal Server Error"}`)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that has gone needs no answer
}

func refuse(w http.ResponseWriter, status int, format string, args ...any) {
	reply(w, status, map[string]string{"message": fmt.Sprintf(format, args...)})
}

type logHandler func(w http.ResponseWriter, did syntax.DID, log []plc.Entry)

func (d *Directory) withLog(serve logHandler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		did := syntax.DID(r.PathValue("did"))
		log := d.Log(did)
		if len(log) == 0 {
			refuse(w, http.StatusNotFound, "DID not registered: %s", did)
			return
		}
		serve(w, did, log)
	}
}

func serveDocument(w http.ResponseWriter, did syntax.DID, log []plc.Entry) {
	last, _ := plc.Last(log)
	if last.Operation.Tombstone != nil {
		refuse(w, http.StatusGone, "DID not available: %s", did)
		return
	}
	doc, err := plc.Document(did, last.Operation)
	if err != nil {
		refuse(w, http.StatusInternalServerError, "Internal Server Error")
		return
	}
	w.Header().Set("Content-Type", "application/did+ld+json; charset=utf-8")
	_, _ = w.Write(doc) //nolint:gosec // JSON, and the type says so
}

func serveData(w http.ResponseWriter, did syntax.DID, log []plc.Entry) {
	last, _ := plc.Last(log)
	op := last.Operation.Regular
	if last.Operation.Legacy != nil {
		r := last.Operation.Legacy.RegularOp()
		op = &r
	}
	if op == nil {
		refuse(w, http.StatusGone, "DID not available: %s", did)
		return
	}
	reply(w, http.StatusOK, struct {
		DID                 syntax.DID                  `json:"did"`
		VerificationMethods map[string]string           `json:"verificationMethods"`
		RotationKeys        []string                    `json:"rotationKeys"`
		AlsoKnownAs         []string                    `json:"alsoKnownAs"`
		Services            map[string]didplc.OpService `json:"services"`
	}{did, op.VerificationMethods, op.RotationKeys, op.AlsoKnownAs, op.Services})
}

func serveLog(w http.ResponseWriter, _ syntax.DID, log []plc.Entry) {
	ops := []*didplc.OpEnum{}
	for _, e := range log {
		if !e.Nullified {
			ops = append(ops, &e.Operation)
		}
	}
	reply(w, http.StatusOK, ops)
}

func serveLast(w http.ResponseWriter, _ syntax.DID, log []plc.Entry) {
	last, _ := plc.Last(log)
	reply(w, http.StatusOK, &last.Operation)
}

// audit is an entry of the audit log and of an export.
type audit struct {
	DID       syntax.DID     `json:"did"`
	Operation *didplc.OpEnum `json:"operation"`
	CID       string         `json:"cid"`
	Nullified bool           `json:"nullified"`
	CreatedAt string         `json:"createdAt"`
}

func auditEntry(did syntax.DID, e plc.Entry) audit {
	return audit{did, &e.Operation, e.CID, e.Nullified, e.CreatedAt.UTC().Format(timeLayout)}
}

func serveAudit(w http.ResponseWriter, did syntax.DID, log []plc.Entry) {
	out := []audit{}
	for _, e := range log {
		out = append(out, auditEntry(did, e))
	}
	reply(w, http.StatusOK, out)
}

func (d *Directory) serveExport(w http.ResponseWriter, r *http.Request) {
	count := maxExport
	if s := r.URL.Query().Get("count"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			refuse(w, http.StatusBadRequest, "Invalid count parameter")
			return
		}
		count = min(n, maxExport)
	}
	var after time.Time
	if s := r.URL.Query().Get("after"); s != "" {
		var err error
		if after, err = time.Parse(time.RFC3339, s); err != nil {
			refuse(w, http.StatusBadRequest, "Invalid after parameter")
			return
		}
	}
	w.Header().Set("Content-Type", "application/jsonlines")
	_, _ = w.Write(d.export(count, after))
}

func (d *Directory) serveSubmit(w http.ResponseWriter, r *http.Request) {
	did, err := syntax.ParseDID(r.PathValue("did"))
	if err != nil || did.Method() != "plc" {
		refuse(w, http.StatusBadRequest, "Improperly formatted did")
		return
	}
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		refuse(w, http.StatusRequestEntityTooLarge, "request entity too large")
		return
	}
	op, err := plc.Decode(raw)
	if err == nil {
		err = d.Submit(did, op)
	}
	switch {
	case err == nil:
		w.WriteHeader(http.StatusOK)
		_, _ = io.WriteString(w, "OK")
	case errors.Is(err, plc.ErrOperation), errors.Is(err, plc.ErrMisordered), errors.Is(err, plc.ErrSignature),
		errors.Is(err, plc.ErrLateRecovery), errors.Is(err, plc.ErrGenesisHash):
		refuse(w, http.StatusBadRequest, "%v", err)
	default:
		refuse(w, http.StatusInternalServerError, "Internal Server Error")
	}
}
