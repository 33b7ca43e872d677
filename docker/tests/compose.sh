# shellcheck shell=bash
# Images and compose files with an engine: sourced by the pieces of docker/test that need one, not run. They set
# $project and $compose_file.

# needs_engine WHAT: without an engine, WHAT is not checked.
needs_engine() { timeout 10 docker info >/dev/null 2>&1 || not_checked "$1, because there is no Docker engine"; }

# needs_image WHAT IMAGE: without the image, WHAT is not checked.
needs_image() {
    docker image inspect "$2" >/dev/null 2>&1 || timeout 300 docker pull --quiet "$2" >/dev/null 2>&1 ||
        not_checked "$1, because $2 is not available"
}

# use_images WHAT NAME: sets the images that the files build from: the one of that name and Go's, from the environment
# or else from docker/.env.
use_images() {
    local name
    for name in "$2" GO_IMAGE; do
        export "$name=${!name:-$(sed -n "s/^$name=//p" docker/.env)}"
        needs_image "$1" "${!name}"
    done
    base_image=${!2}
    unset PG_CRON_SOURCE
    [[ -z ${IMAGE_PG_CRON_SOURCE:-} ]] || export PG_CRON_SOURCE=$IMAGE_PG_CRON_SOURCE
}

has_compose() { docker compose version >/dev/null 2>&1 || docker-compose version >/dev/null 2>&1; }

compose() {
    if docker compose version >/dev/null 2>&1; then
        docker compose --project-name "$project" --file "$compose_file" "$@"
    else
        docker-compose --project-name "$project" --file "$compose_file" "$@"
    fi
}

# healthy SERVICE: succeeds if its health check passes.
healthy() { [[ $(docker inspect --format '{{.State.Health.Status}}' "$(compose ps --quiet "$1")") == healthy ]]; }

# compose_up SERVICE: starts everything, sets $page and does the main job. SERVICE is the database that programs use.
compose_up() {
    say "docker compose --file $compose_file up, on $base_image and $GO_IMAGE"
    # Any free ports.
    export POSTGRES_PORT=0 ORCHESTRATOR_PORT=0
    # Images of their own name, which compose_down removes.
    export TINYDEVCRM_VERSION=test
    compose up --build --detach || { compose logs --tail 30; die "compose up failed, see above."; }
    until_true 180 "the database is healthy" healthy "$1"
    until_true 120 "the orchestrator is healthy" healthy orchestrator
    page=http://$(compose port orchestrator 5000)
    export page
    main_job
}

compose_down() { compose down --volumes --remove-orphans --rmi all --timeout "$1"; }
