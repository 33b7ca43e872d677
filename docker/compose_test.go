// Package docker_test reads the compose files as Docker does, and compares them with the files that they use.
// What needs a container engine is tested in docker/test.
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

func load(t *testing.T, file string, environment ...string) *types.Project {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{file}, cli.WithEnv(environment), cli.WithEnvFiles(), cli.WithDotEnv)
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return project
}

// service returns a service of a compose file, and the text of the Dockerfile that it is built from.
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
	for file, want := range map[string][]string{
		"compose.yaml":       {"database", "migrate", "orchestrator", "passwords", "runner"},
		"compose.citus.yaml": {"coordinator", "migrate", "nodes", "orchestrator", "passwords", "runner", "worker1", "worker2"},
	} {
		t.Run(file, func(t *testing.T) {
			project := load(t, file)
			if names := project.ServiceNames(); !slices.Equal(names, want) {
				t.Fatalf("services %v, want %v", names, want)
			}
			buildsWhatIsHere(t, project)
		})
	}
}

func buildsWhatIsHere(t *testing.T, project *types.Project) {
	t.Helper()
	copied := regexp.MustCompile(`(?m)^COPY ([^-].*) \S+$`)
	// A release of each image, with or without its digest.
	image := regexp.MustCompile(`^(postgres:\d+\.\d+-\w+\.\d+|golang:\d\.\d+-alpine|citusdata/citus:\d+\.\d+\.\d+)(@sha256:[0-9a-f]{64})?$`)
	argument := regexp.MustCompile(`(?m)^ARG (\w+)=?(.*)$`)
	for _, name := range project.ServiceNames() {
		service, dockerfile := service(t, project, name)
		defaults := make(map[string]string)
		for _, match := range argument.FindAllStringSubmatch(dockerfile, -1) {
			defaults[match[1]] = match[2]
		}
		for arg, value := range service.Build.Args {
			if given, isThere := defaults[arg]; !isThere || given != "" && given != *value {
				t.Errorf("%s: %s is %q here and %q in the Dockerfile", name, arg, *value, given)
			}
			// The images are named in one place.
			if strings.HasSuffix(arg, "_IMAGE") && (defaults[arg] != "" || !image.MatchString(*value)) {
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
	database := types.ServicePortConfig{HostIP: "127.0.0.1", Published: "15432", Target: 5432}
	page := types.ServicePortConfig{HostIP: "127.0.0.1", Published: "15000", Target: 5000}
	for file, open := range map[string]map[string]types.ServicePortConfig{
		"compose.yaml":       {"database": database, "orchestrator": page},
		"compose.citus.yaml": {"coordinator": database, "orchestrator": page},
	} {
		project := load(t, file, "POSTGRES_PORT=15432", "ORCHESTRATOR_PORT=15000")
		for _, name := range project.ServiceNames() {
			service, _ := service(t, project, name)
			want, ok := open[name]
			if !ok {
				if len(service.Ports) != 0 {
					t.Errorf("%s: %s has ports: %v", file, name, service.Ports)
				}
				continue
			}
			if len(service.Ports) != 1 {
				t.Fatalf("%s: %s has %d ports, want 1", file, name, len(service.Ports))
			}
			port := service.Ports[0]
			if port.HostIP != want.HostIP || port.Published != want.Published || port.Target != want.Target {
				t.Errorf("%s: %s: %s:%s to %d, want %s:%s to %d", file, name,
					port.HostIP, port.Published, port.Target, want.HostIP, want.Published, want.Target)
			}
		}
	}
	if _, dockerfile := service(t, load(t, "compose.yaml"), "orchestrator"); !strings.Contains(dockerfile, "ENV LISTEN_ADDR=0.0.0.0:5000\n") {
		t.Error("the orchestrator does not listen on the port that is published")
	}
}

// An image of a release is run where it can be pulled, and built where not. It has the files that the service runs.
func TestComposeRunsTheImagesOfARelease(t *testing.T) {
	project := load(t, "compose.yaml", "TINYDEVCRM_VERSION=1.2.3")
	for _, name := range project.ServiceNames() {
		service, dockerfile := service(t, project, name)
		want := "ghcr.io/yingw787/tinydevcrm-postgres:1.2.3"
		if strings.Contains(service.Build.Dockerfile, "orchestrator") {
			want = "ghcr.io/yingw787/tinydevcrm-orchestrator:1.2.3"
		}
		if service.Image != want || service.PullPolicy != types.PullPolicyMissing {
			t.Errorf("%s: image %s, pull policy %s; want %s", name, service.Image, service.PullPolicy, want)
		}
		for _, volume := range service.Volumes {
			if volume.Type == types.VolumeTypeBind {
				t.Errorf("%s needs %s, which a machine without a clone does not have", name, volume.Source)
			}
		}
		for _, word := range strings.Fields(strings.Join(slices.Concat(service.Entrypoint, service.Command), " ")) {
			folder, file := filepath.Split(strings.TrimPrefix(word, "--file="))
			if folder == "/usr/local/share/tinydevcrm/" && !strings.Contains(dockerfile, "docker/"+file+" ") {
				t.Errorf("%s: the image lacks %s", name, file)
			}
		}
	}
}

func TestComposeHasNoPasswordOfItsOwn(t *testing.T) {
	for file, servers := range map[string][]string{
		"compose.yaml":       {"database"},
		"compose.citus.yaml": {"coordinator", "worker1", "worker2"},
	} {
		t.Run(file, func(t *testing.T) {
			project := load(t, file, "POSTGRES_PASSWORD=a:b/c@d", "RUNNER_PASSWORD=e:f/g@h")
			for _, name := range project.ServiceNames() {
				service, _ := service(t, project, name)
				for variable, value := range service.Environment {
					if isGiven := strings.Contains(*value, "a:b/c@d") || strings.Contains(*value, "e:f/g@h"); isGiven && name != "passwords" {
						t.Errorf("%s has the password in %s", name, variable)
					}
				}
				if name != "passwords" {
					readsPasswords(t, service, slices.Contains(servers, name))
				}
			}
			for name, value := range load(t, file).Services["passwords"].Environment {
				if strings.HasSuffix(name, "PASSWORD") && *value != "" {
					t.Errorf("%s has the default %q", name, *value)
				}
			}
			orchestratorIsNoSuperuser(t, project)
			keepsTheData(t, project, servers)
			orchestratorReadsItsEnvironment(t, project)
		})
	}
}

// readsPasswords: a service reads its password from a volume that it cannot write, after it has been made.
func readsPasswords(t *testing.T, service types.ServiceConfig, isServer bool) {
	t.Helper()
	variable, role, file := "PGPASSFILE", "postgres", "/pgpass"
	if isServer {
		variable, file = "POSTGRES_PASSWORD_FILE", "/password"
		if service.DependsOn["passwords"].Condition != types.ServiceConditionCompletedSuccessfully {
			t.Errorf("%s does not wait for its password", service.Name)
		}
	}
	if service.Name == "orchestrator" {
		role = "runner"
	}
	if value := service.Environment[variable]; value == nil || *value != "/passwords/"+role+file {
		t.Errorf("%s: %s is %v", service.Name, variable, value)
	}
	found := slices.ContainsFunc(service.Volumes, func(v types.ServiceVolumeConfig) bool {
		return v.Source == role+"-password" && v.Target == "/passwords/"+role && v.ReadOnly
	})
	if !found {
		t.Errorf("%s: the password is in none of %v", service.Name, service.Volumes)
	}
}

// orchestratorIsNoSuperuser: it starts when the superuser has migrated and created its role, and it has neither
// the name nor the password of a superuser.
func orchestratorIsNoSuperuser(t *testing.T, project *types.Project) {
	t.Helper()
	orchestrator, dockerfile := service(t, project, "orchestrator")
	migrate, _ := service(t, project, "migrate")
	runner, _ := service(t, project, "runner")
	for _, volume := range orchestrator.Volumes {
		if volume.Source != "runner-password" {
			t.Errorf("the orchestrator sees %s", volume.Source)
		}
	}
	if url := *orchestrator.Environment["DATABASE_URL"]; !strings.HasPrefix(url, "postgres://runner@") {
		t.Errorf("the orchestrator logs in by %s", url)
	}
	if !slices.Equal(migrate.Command, []string{"migrate", "up"}) || !strings.HasPrefix(*migrate.Environment["DATABASE_URL"], "postgres://postgres@") {
		t.Errorf("migrate does %v by %s", migrate.Command, *migrate.Environment["DATABASE_URL"])
	}
	// Only root reads the superuser's password, and only the user of the image that of the runner.
	passwords, err := os.ReadFile("passwords")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(dockerfile, "\nUSER 65534:65534\n") || !strings.Contains(string(passwords), "RUNNER_OWNER:-65534:65534}") ||
		orchestrator.User != "" || migrate.User != "0:0" {
		t.Errorf("migrate runs as %q, the orchestrator as %q", migrate.User, orchestrator.User)
	}
	if command := strings.Join(runner.Command, " "); !strings.Contains(command, "RUNNER_PASSWORD=$(cat /passwords/runner/password)") || *runner.Environment["PGUSER"] != "postgres" {
		t.Errorf("the role gets its password by %s", command)
	}
	if orchestrator.DependsOn["runner"].Condition != types.ServiceConditionCompletedSuccessfully ||
		runner.DependsOn["migrate"].Condition != types.ServiceConditionCompletedSuccessfully {
		t.Error("the orchestrator does not wait for its role, or that for the schema")
	}
	for _, name := range []string{"migrate", "passwords", "runner"} {
		if once, _ := service(t, project, name); once.Restart != "" && once.Restart != types.RestartPolicyNo {
			t.Errorf("%s is restarted", name)
		}
	}
}

// keepsTheData requires a volume for each server.
func keepsTheData(t *testing.T, project *types.Project, servers []string) {
	t.Helper()
	var volumes []string
	for _, name := range servers {
		server, _ := service(t, project, name)
		data := server.Environment["PGDATA"]
		if data == nil {
			t.Fatalf("%s has no PGDATA", name)
		}
		for _, volume := range server.Volumes {
			if volume.Type == types.VolumeTypeVolume && volume.Target == *data {
				volumes = append(volumes, volume.Source)
			}
		}
	}
	slices.Sort(volumes)
	// The other two hold the passwords.
	if len(slices.Compact(volumes)) != len(servers) || len(project.Volumes) != len(servers)+2 {
		t.Errorf("the data of %v is in volumes %v", servers, volumes)
	}
}

func orchestratorReadsItsEnvironment(t *testing.T, project *types.Project) {
	t.Helper()
	orchestrator, _ := service(t, project, "orchestrator")
	for name := range orchestrator.Environment {
		if !slices.Contains([]string{"DATABASE_URL", "LISTEN_ADDR", "PGPASSFILE"}, name) {
			t.Errorf("the orchestrator does not read %s", name)
		}
	}
}

// The programs of the health checks accept their arguments: they find no server, and say so.
func TestComposeAsksForHealthAsItCan(t *testing.T) {
	project := load(t, "compose.yaml")
	database, _ := service(t, project, "database")
	check := database.HealthCheck.Test
	cluster := load(t, "compose.citus.yaml")
	for _, name := range []string{"coordinator", "worker1", "worker2"} {
		if node, _ := service(t, cluster, name); !slices.Equal(node.HealthCheck.Test, check) {
			t.Errorf("%s: %v", name, node.HealthCheck.Test)
		}
	}
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
	probe.Env = append(os.Environ(), "LISTEN_ADDR=0.0.0.0:1")
	if out, err := probe.CombinedOutput(); err == nil || !strings.Contains(string(out), "no page answers at 0.0.0.0:1") {
		t.Errorf("%v: %v\n%s", check, err, out)
	}
}

// docker/pin adds the digest that it finds to each image, and replaces it by a newer one later.
func TestPinWritesDigests(t *testing.T) {
	folder := t.TempDir()
	digests := []string{strings.Repeat("a1", 32), strings.Repeat("b2", 32)}
	copied := func(name string, mode os.FileMode) {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, name), content, mode); err != nil {
			t.Fatal(err)
		}
	}
	copied(".env", 0o600)
	copied("pin", 0o700)
	for _, digest := range digests {
		docker := "#!/bin/sh\n[ $2 = version ] || { shift 4; case $2 in *@*) exit 1; esac; echo sha256:" + digest + "; }\n"
		if err := os.WriteFile(filepath.Join(folder, "docker"), []byte(docker), 0o700); err != nil {
			t.Fatal(err)
		}
		pin := exec.CommandContext(t.Context(), filepath.Join(folder, "pin"))
		pin.Env = append(os.Environ(), "PATH="+folder+":"+os.Getenv("PATH"))
		if out, err := pin.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		images, err := os.ReadFile(filepath.Join(folder, ".env"))
		if err != nil {
			t.Fatal(err)
		}
		if got := regexp.MustCompile(`(?m)^[A-Z]+_IMAGE=[^@]+@sha256:`+digest+`$`).FindAll(images, -1); len(got) != 3 {
			t.Errorf("of three images %d have the digest:\n%s", len(got), images)
		}
		if !strings.Contains(string(images), "postgres:12.") || !strings.HasPrefix(string(images), "# The base images") {
			t.Errorf("the rest has changed:\n%s", images)
		}
	}
}
