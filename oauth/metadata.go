package oauth

import (
	"net/http"
	"strconv"

	"github.com/go-json-experiment/json"

	"nestbox/oauth/client"
	"nestbox/oauth/dpop"
	"nestbox/oauth/scope"
)

// Paths of the authorization server.
const (
	PathResource  = "/.well-known/oauth-protected-resource"
	PathServer    = "/.well-known/oauth-authorization-server"
	PathKeys      = "/oauth/jwks"
	PathPush      = "/oauth/par"
	PathAuthorize = "/oauth/authorize"
	PathToken     = "/oauth/token" //nolint:gosec // a path
	PathRevoke    = "/oauth/revoke"
)

// resourceMetadata is RFC 9728.
type resourceMetadata struct {
	Resource               string   `json:"resource"`
	AuthorizationServers   []string `json:"authorization_servers"`
	ScopesSupported        []string `json:"scopes_supported"`
	BearerMethodsSupported []string `json:"bearer_methods_supported"`
	ResourceDocumentation  string   `json:"resource_documentation"`
}

// serverMetadata is RFC 8414, with what RFC 9126, 9207, 9449 and 9728 and the atproto
// profile add.
type serverMetadata struct {
	Issuer                                     string   `json:"issuer"`
	AuthorizationEndpoint                      string   `json:"authorization_endpoint"`
	TokenEndpoint                              string   `json:"token_endpoint"`
	PushedAuthorizationRequestEndpoint         string   `json:"pushed_authorization_request_endpoint"`
	RevocationEndpoint                         string   `json:"revocation_endpoint"`
	JWKSURI                                    string   `json:"jwks_uri"`
	ScopesSupported                            []string `json:"scopes_supported"`
	ResponseTypesSupported                     []string `json:"response_types_supported"`
	ResponseModesSupported                     []string `json:"response_modes_supported"`
	GrantTypesSupported                        []string `json:"grant_types_supported"`
	CodeChallengeMethodsSupported              []string `json:"code_challenge_methods_supported"`
	TokenEndpointAuthMethodsSupported          []string `json:"token_endpoint_auth_methods_supported"`
	TokenEndpointAuthSigningAlgValuesSupported []string `json:"token_endpoint_auth_signing_alg_values_supported"`
	DPoPSigningAlgValuesSupported              []string `json:"dpop_signing_alg_values_supported"`
	AuthorizationResponseIssParameterSupported bool     `json:"authorization_response_iss_parameter_supported"`
	RequirePushedAuthorizationRequests         bool     `json:"require_pushed_authorization_requests"`
	RequireRequestURIRegistration              bool     `json:"require_request_uri_registration"`
	RequestURIParameterSupported               bool     `json:"request_uri_parameter_supported"`
	RequestParameterSupported                  bool     `json:"request_parameter_supported"`
	ClientIDMetadataDocumentSupported          bool     `json:"client_id_metadata_document_supported"`
	PromptValuesSupported                      []string `json:"prompt_values_supported"`
	ProtectedResources                         []string `json:"protected_resources"`
	SubjectTypesSupported                      []string `json:"subject_types_supported"`
	DisplayValuesSupported                     []string `json:"display_values_supported"`
	UILocalesSupported                         []string `json:"ui_locales_supported,omitzero"`
	OpPolicyURI                                string   `json:"op_policy_uri,omitzero"`
	OpTOSURI                                   string   `json:"op_tos_uri,omitzero"`
}

func (s *Service) serverMetadata() serverMetadata {
	prompts := []string{"none", "login", "consent", "select_account"}
	if s.SignUp {
		prompts = append(prompts, "create")
	}
	proofAlgs := []string{dpop.AnnouncedAlgs}
	if s.Inherited {
		proofAlgs = dpop.Algs()
	}
	return serverMetadata{
		Issuer: s.Issuer, AuthorizationEndpoint: s.Issuer + PathAuthorize, TokenEndpoint: s.Issuer + PathToken,
		PushedAuthorizationRequestEndpoint: s.Issuer + PathPush, RevocationEndpoint: s.Issuer + PathRevoke, JWKSURI: s.Issuer + PathKeys,
		ScopesSupported: []string{
			string(scope.Atproto), string(scope.TransitionEmail), string(scope.TransitionGeneric), string(scope.TransitionChat),
		},
		ResponseTypesSupported:                     []string{"code"},
		ResponseModesSupported:                     []string{string(ModeQuery), string(ModeFragment), string(ModeFormPost)},
		GrantTypesSupported:                        []string{grantCode, grantRefresh},
		CodeChallengeMethodsSupported:              []string{"S256"},
		TokenEndpointAuthMethodsSupported:          []string{string(client.MethodNone), string(client.MethodPrivateKey)},
		TokenEndpointAuthSigningAlgValuesSupported: client.AssertionAlgs(), DPoPSigningAlgValuesSupported: proofAlgs,
		AuthorizationResponseIssParameterSupported: true, RequirePushedAuthorizationRequests: true, RequireRequestURIRegistration: true,
		RequestURIParameterSupported: true, ClientIDMetadataDocumentSupported: true,
		PromptValuesSupported: prompts, ProtectedResources: []string{s.Issuer}, SubjectTypesSupported: []string{"public"},
		DisplayValuesSupported: []string{"page", "popup", "touch"}, UILocalesSupported: s.Locales, OpPolicyURI: s.PolicyURL, OpTOSURI: s.TermsURL,
	}
}

// ServeServer answers with the authorization server's metadata.
func (s *Service) ServeServer(w http.ResponseWriter, r *http.Request) {
	serveDocument(w, r, s.serverMetadata())
}

// ServeResource answers with the resource server's metadata.
func (s *Service) ServeResource(w http.ResponseWriter, r *http.Request) {
	serveDocument(w, r, resourceMetadata{
		Resource: s.Issuer, AuthorizationServers: []string{s.Issuer}, ScopesSupported: []string{}, BearerMethodsSupported: []string{"header"},
		ResourceDocumentation: "https://atproto.com",
	})
}

// ServeKeys answers with no keys: our tokens are for ourselves, under a secret.
func (s *Service) ServeKeys(w http.ResponseWriter, r *http.Request) {
	serveDocument(w, r, struct {
		Keys []string `json:"keys"`
	}{[]string{}})
}

func serveDocument(w http.ResponseWriter, r *http.Request, document any) {
	body, err := json.Marshal(document)
	if err != nil { // structs of valid strings always encode
		http.Error(w, "Internal Server Error", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "public, max-age=300")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // a client that has gone needs no answer
	}
}
