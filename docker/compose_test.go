// Package docker_test reads compose.yaml as Docker does, and holds it against what it uses. What can only
// be tried with an engine is in docker/test.
package docker_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

func load(t *testing.T, environment ...string) *types.Project {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{"compose.yaml"}, cli.WithEnv(environment))
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return project
}

// service is one of compose.yaml, with the text of the Dockerfile that it is built from.
func service(t *testing.T, project *types.Project, name string) (types.ServiceConfig, string) {
	t.Helper()
	found, err := project.GetService(name)
	if err != nil {
		t.Fatal(err)
	}
	dockerfile, err := os.ReadFile(filepath.Join(found.Build.Context, found.Build.Dockerfile))
	if err != nil {
		t.Fatal(err)
	}
	return found, string(dockerfile)
}

func TestComposeBuildsWhatIsHere(t *testing.T) {
	project := load(t)
	if names := project.ServiceNames(); !slices.Equal(names, []string{"database", "orchestrator"}) {
		t.Fatalf("services %v", names)
	}
	copied := regexp.MustCompile(`(?m)^COPY ([^-].*) \S+$`)
	argument := regexp.MustCompile(`(?m)^ARG (\w+)=(.*)$`)
	for _, name := range project.ServiceNames() {
		service, dockerfile := service(t, project, name)
		defaults := make(map[string]string)
		for _, match := range argument.FindAllStringSubmatch(dockerfile, -1) {
			defaults[match[1]] = match[2]
		}
		for arg, value := range service.Build.Args {
			if defaults[arg] != *value {
				t.Errorf("%s: %s is %q here and %q in the Dockerfile", name, arg, *value, defaults[arg])
			}
		}
		for _, match := range copied.FindAllStringSubmatch(dockerfile, -1) {
			for file := range strings.FieldsSeq(match[1]) {
				if _, err := os.Stat(filepath.Join(service.Build.Context, file)); err != nil {
					t.Errorf("%s: COPY %s: %v", name, file, err)
				}
			}
		}
	}
}

func TestComposeIsOpenToThisMachineOnly(t *testing.T) {
	project := load(t, "POSTGRES_PORT=15432", "ORCHESTRATOR_PORT=15000")
	for name, want := range map[string]types.ServicePortConfig{
		"database":     {HostIP: "127.0.0.1", Published: "15432", Target: 5432},
		"orchestrator": {HostIP: "127.0.0.1", Published: "15000", Target: 5000},
	} {
		service, _ := service(t, project, name)
		if len(service.Ports) != 1 {
			t.Fatalf("%s has %d ports, want 1", name, len(service.Ports))
		}
		port := service.Ports[0]
		if port.HostIP != want.HostIP || port.Published != want.Published || port.Target != want.Target {
			t.Errorf("%s: %s:%s to %d, want %s:%s to %d", name,
				port.HostIP, port.Published, port.Target, want.HostIP, want.Published, want.Target)
		}
	}
	if _, dockerfile := service(t, project, "orchestrator"); !strings.Contains(dockerfile, "ENV LISTEN_ADDR=0.0.0.0:5000\n") {
		t.Error("the orchestrator does not listen on the port that is published")
	}
}

func TestComposeSharesThePasswordAndKeepsTheData(t *testing.T) {
	project := load(t, "POSTGRES_PASSWORD=a:b/c@d")
	database, _ := service(t, project, "database")
	orchestrator, _ := service(t, project, "orchestrator")
	for name, value := range map[string]*string{
		"the server's":       database.Environment["POSTGRES_PASSWORD"],
		"the orchestrator's": orchestrator.Environment["PGPASSWORD"],
	} {
		if value == nil || *value != "a:b/c@d" {
			t.Errorf("%s password is %v", name, value)
		}
	}
	if len(database.Volumes) != 1 || database.Environment["PGDATA"] == nil ||
		database.Volumes[0].Target != *database.Environment["PGDATA"] {
		t.Errorf("the data of the server is not in its volume: %v", database.Volumes)
	}
	for name := range orchestrator.Environment {
		if !slices.Contains([]string{"DATABASE_URL", "LISTEN_ADDR", "PGPASSWORD"}, name) {
			t.Errorf("the orchestrator does not read %s", name)
		}
	}
}

// The programs of the health checks know their arguments: they find nobody, and say so.
func TestComposeAsksForHealthAsItCan(t *testing.T) {
	project := load(t)
	database, _ := service(t, project, "database")
	check := database.HealthCheck.Test
	probe := exec.CommandContext(t.Context(), check[1], slices.Concat(check[2:], []string{"--port=1"})...)
	var exit *exec.ExitError
	if err := probe.Run(); !errors.As(err, &exit) || exit.ExitCode() != 2 {
		t.Errorf("%v: %v, want exit code 2, no response", check, err)
	}

	orchestrator, dockerfile := service(t, project, "orchestrator")
	check = orchestrator.HealthCheck.Test
	if !strings.Contains(dockerfile, "\nCOPY --from=build /built/orchestrator /usr/local/bin/\n") ||
		check[1] != "/usr/local/bin/orchestrator" {
		t.Errorf("%s is not where the image has it", check[1])
	}
	binary := filepath.Join(t.TempDir(), "orchestrator")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "../orchestrator").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	probe = exec.CommandContext(t.Context(), binary, check[2:]...)
	probe.Env = append(os.Environ(), "DATABASE_URL=postgres://postgres@127.0.0.1:1/tinydevcrm?sslmode=disable")
	if out, err := probe.CombinedOutput(); err == nil || !strings.Contains(string(out), "the database does not answer") {
		t.Errorf("%v: %v\n%s", check, err, out)
	}
}
