package webhook_test

import (
	"fmt"
	"net/http"
	"testing"
)

// An answer that repeats the request, as some servers do, does not show what is secret in it.
func TestAnswersHideSecrets(t *testing.T) {
	for _, status := range []int{http.StatusOK, http.StatusBadRequest} {
		server := serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(status)
			fmt.Fprintf(w, "got %s", r.Header.Get("Authorization"))
		})
		endpoint := to(server.URL)
		endpoint.Headers = map[string]string{"Authorization": "Bearer very-secret"}
		answer, _ := newClient(t).Post(t.Context(), endpoint, message)
		if answer == nil || answer.Status != status || string(answer.Body) != "got …" {
			t.Errorf("status %d: %+v", status, answer)
		}
	}
}
