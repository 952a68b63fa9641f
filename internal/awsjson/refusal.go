package awsjson

import (
	"cmp"
	"fmt"
	"strings"

	"privyseal/internal/secret"
	"privyseal/internal/strictjson"
)

// Refusal is what an answer says that is not 200. All of it acts on no terminal and no log.
type Refusal struct {
	Code      string // AWS's name for the reason, or "HTTP status N"
	Message   string // AWS's words
	RequestID string // by which CloudTrail and AWS's support find the call
	Late      bool   // the reason is the time of the request
}

// Refusal reads an answer that is not 200: {"__type": code, "message": text}, code perhaps
// after a prefix and "#". credentials are those of the request.
func (a *Answer) Refusal(credentials secret.AWS) Refusal {
	var body struct {
		Type    string `json:"__type"`
		Message string `json:"message"`
	}
	// An answer of something in between has no JSON; its status remains.
	if err := strictjson.Unmarshal(a.Body, &body); err != nil {
		body.Type, body.Message = "", ""
	}
	code := cmp.Or(body.Type, a.header.Get("X-Amzn-Errortype"))
	code, _, _ = strings.Cut(code[strings.LastIndexByte(code, '#')+1:], ":")
	r := Refusal{Code: Printable(code, 60), Message: Printable(body.Message, 300), RequestID: Printable(a.header.Get("X-Amzn-Requestid"), 60),
		Late: strings.HasPrefix(body.Message, "Signature expired") || strings.HasPrefix(body.Message, "Signature not yet current")}
	if r.Code == "" {
		r.Code = fmt.Sprintf("HTTP status %d", a.Status)
	}
	// Such a message can quote the request, with the session token in it.
	token := credentials.SessionToken.Reveal()
	if token != "" && strings.Contains(r.Message, token[:min(len(token), 16)]) {
		r.Message = ""
	}
	return r
}

// Printable returns at most n bytes of s, and only ASCII that changes no terminal and no
// log line.
func Printable(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	return s[:min(len(s), n)]
}
