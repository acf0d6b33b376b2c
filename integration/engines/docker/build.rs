//! Images built, and several containers as one application.

use super::case;
use crate::case::Case;

const DOCKERFILE: &str = "printf 'FROM box\\nRUN echo built >/made\\nUSER 1000\\nRUN id >/tmp/id\\nCMD cat /made /tmp/id\\n' >$DIR/Dockerfile; cd $DIR; ";

pub fn cases() -> Vec<Case> {
    vec![
        case("build_classic", "the classic builder: a container a step", |here| {
            here.sh(&format!(
                "{DOCKERFILE} DOCKER_BUILDKIT=0 docker build --network none -t $NAME -f Dockerfile .
                docker run --rm --network none $NAME; docker rmi $NAME"
            ))
            .ok()
            .prints("built\nuid=1000(user)")
        }),
        case("build_buildkit", "BuildKit, which runs the runtime by itself and in the foreground", |here| {
            here.sh(&format!(
                "{DOCKERFILE} docker build --network none -t $NAME .
                docker run --rm --network none $NAME; docker rmi $NAME"
            ))
            .ok()
            .prints("built\nuid=1000(user)")
        }),
        case("build_fails", "a step that fails: its exit code is told", |here| {
            here.sh("printf 'FROM box\\nRUN exit 42\\n' >$DIR/Dockerfile; cd $DIR; docker build --network none .")
                .exits(1)
                .says("exit code: 42")
        }),
        case("compose", "docker compose: two services in a network of their own, one asks the other", |here| {
            here.sh("cat >$DIR/compose.yaml <<END
services:
  server:
    image: box
    command: httpd -f -h /www
    pull_policy: never
  client:
    image: box
    command: sh -c 'until wget -qO- http://server/; do sleep 0.1; done'
    depends_on: [server]
    pull_policy: never
END
                cd $DIR
                docker compose -p $NAME up -d
                eventually eval 'docker compose -p $NAME logs client | grep \"served by\"'
                docker compose -p $NAME exec -T server echo executed
                docker compose -p $NAME down -t 0")
                .ok()
                .prints("executed")
        }),
    ]
}
