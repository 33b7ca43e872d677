package docker_test

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/types"
)

func TestCitusMountsWhatIsHere(t *testing.T) {
	project := load(t, "compose.citus.yaml")
	for _, name := range project.ServiceNames() {
		service, dockerfile := service(t, project, name)
		for _, volume := range service.Volumes {
			if volume.Type != types.VolumeTypeBind {
				continue
			}
			if _, err := os.Stat(volume.Source); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if !volume.ReadOnly {
				t.Errorf("%s could write to %s", name, volume.Source)
			}
			// The settings are where the image reads them.
			if strings.HasSuffix(volume.Target, ".conf") && !strings.Contains(dockerfile, "include_if_exists = '"+volume.Target+"'") {
				t.Errorf("%s: the image does not read %s", name, volume.Target)
			}
		}
	}
}

// address returns the address of a service on the network of the nodes.
func address(t *testing.T, service types.ServiceConfig) netip.Addr {
	t.Helper()
	if service.Networks["nodes"] == nil {
		t.Fatalf("%s is not among the nodes", service.Name)
	}
	address, err := netip.ParseAddr(service.Networks["nodes"].Ipv4Address)
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// Nodes trust each other's addresses, so no other container may have such an address.
func TestCitusNodesTrustOnlyEachOther(t *testing.T) {
	project := load(t, "compose.citus.yaml", "NODES_NETWORK=10.9.8")
	network := project.Networks["nodes"]
	if !network.Internal || len(network.Ipam.Config) != 1 {
		t.Fatalf("the nodes' network: %+v", network)
	}
	subnet, gateway := netip.MustParsePrefix(network.Ipam.Config[0].Subnet), netip.MustParseAddr(network.Ipam.Config[0].Gateway)
	if subnet.String() != "10.9.8.0/24" || !subnet.Contains(gateway) {
		t.Errorf("subnet %s, gateway %s", subnet, gateway)
	}
	for _, name := range project.ServiceNames() {
		service, _ := service(t, project, name)
		networks := service.NetworksByPriority()
		if name == "passwords" {
			if service.NetworkMode != "none" {
				t.Errorf("%s is on networks %v", name, networks)
			}
			continue
		}
		if slices.Contains([]string{"migrate", "nodes", "orchestrator", "runner"}, name) {
			if !slices.Equal(networks, []string{"default"}) {
				t.Errorf("%s is on networks %v", name, networks)
			}
			continue
		}
		if name != "coordinator" && !slices.Equal(networks, []string{"nodes"}) {
			t.Errorf("%s is on networks %v", name, networks)
		}
		trusted := netip.MustParsePrefix(*service.Environment["NODES"])
		if !trusted.Contains(address(t, service)) || trusted.Contains(gateway) || trusted != trusted.Masked() {
			t.Errorf("%s at %s trusts %s, gateway %s", name, address(t, service), trusted, gateway)
		}
	}
}

// The service that runs once names the addresses of the nodes, and each worker.
func TestCitusCoordinatorGetsEachWorker(t *testing.T) {
	project := load(t, "compose.citus.yaml")
	nodes, _ := service(t, project, "nodes")
	coordinator, _ := service(t, project, "coordinator")
	if want := "--set=coordinator=" + address(t, coordinator).String(); !slices.Contains(nodes.Command, want) {
		t.Errorf("%v lacks %s", nodes.Command, want)
	}
	for _, name := range []string{"worker1", "worker2"} {
		worker, _ := service(t, project, name)
		at := slices.Index(nodes.Command, `--command=\set worker `+address(t, worker).String())
		if at < 0 || at+1 >= len(nodes.Command) || nodes.Command[at+1] != "--file=/nodes.sql" {
			t.Errorf("%v does not name %s", nodes.Command, name)
		}
		// It does not run pg_cron, but needs Citus.
		if !slices.Contains(worker.Command, "shared_preload_libraries=citus") {
			t.Errorf("%s: %v", name, worker.Command)
		}
		if nodes.DependsOn[name].Condition != types.ServiceConditionHealthy {
			t.Errorf("no service waits for %s", name)
		}
	}
	migrate, _ := service(t, project, "migrate")
	if migrate.DependsOn["nodes"].Condition != types.ServiceConditionCompletedSuccessfully {
		t.Error("no service waits for the nodes before the schema is created")
	}
}

func TestCitusTrustComesBeforeTheImagesRules(t *testing.T) {
	project := load(t, "compose.citus.yaml")
	worker, _ := service(t, project, "worker1")
	script := slices.IndexFunc(worker.Volumes, func(v types.ServiceVolumeConfig) bool {
		return strings.HasPrefix(v.Target, "/docker-entrypoint-initdb.d/")
	})
	if script < 0 {
		t.Fatal("no script for the image to run")
	}
	folder := t.TempDir()
	rules := filepath.Join(folder, "pg_hba.conf")
	if err := os.WriteFile(rules, []byte("local all all trust\nhost all all all scram-sha-256\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run := exec.CommandContext(t.Context(), worker.Volumes[script].Source)
	run.Env = append(os.Environ(), "PGDATA="+folder, "NODES="+*worker.Environment["NODES"])
	if out, err := run.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	got, err := os.ReadFile(rules)
	if err != nil {
		t.Fatal(err)
	}
	want := "host all all 10.213.77.8/29 trust\nlocal all all trust\nhost all all all scram-sha-256\n"
	if string(got) != want {
		t.Errorf("pg_hba.conf is now\n%swant\n%s", got, want)
	}
}
