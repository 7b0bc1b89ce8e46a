/*
 * access.c - says who may connect: networks by rules of a file, which is read again at SIGHUP while
 * clients are served, and nobody when there is too much to do.
 *
 * Run:     access FILE [ADDRESS]            FILE: lines such as `allow 10.0.0.0/8`; docs/access.md
 * Try:     echo 'allow 127.0.0.0/8' > rules; access rules, and nc 127.0.0.1 9999
 * Python:  def verify_request(self, request, client_address):
 *              return ipaddress.ip_address(client_address[0]) in network and not overloaded()
 */
#include <signal.h>
#include <stdio.h>
#include <weir/weir.h>

enum { ENOUGH = 1000 };         /* open connections */

static volatile sig_atomic_t asked;

static void ask(int number)
{
    (void)number;
    asked = 1;
}

static int read_rules(struct weir_server *server)
{
    struct weir_access *rules;
    int r = weir_access_read(weir_server_user(server), &rules);

    return r < 0 ? r : weir_server_set_access(server, rules);
}

/* Every poll_interval_ms, on the accepting thread: a signal handler could not read a file. */
static void read_again(struct weir_server *server)
{
    if (!asked)
        return;
    asked = 0;
    if (read_rules(server) < 0)
        fprintf(stderr, "access: the old rules stay: %s\n", weir_why());
    else
        fprintf(stderr, "access: new rules\n");
}

/* Called for each client that the rules let in. */
static int verify_request(struct weir_server *server, const struct weir_peer *peer)
{
    struct weir_stats stats;

    (void)peer;
    weir_server_stats(server, &stats, sizeof(stats));
    return stats.active < ENOUGH;
}

static int welcome(struct weir_request *req)
{
    char peer[WEIR_ADDRESS_SIZE];

    weir_printf(req, "Welcome, %s\n", weir_peer_text(req, peer, sizeof(peer)));
    return 0;
}

static const struct weir_handler handler = { .name = "access", .handle = welcome };

int main(int argc, char **argv)
{
    struct weir_server *server;
    char address[WEIR_ADDRESS_SIZE];

    if (argc < 2) {
        fprintf(stderr, "usage: access FILE [ADDRESS]\n");
        return 2;
    }
    if (weir_server_create(&server, WEIR_OPTIONS(
            .listen = argc > 2 ? argv[2] : "tcp://127.0.0.1:9999",
            .handler = &handler,
            .user = argv[1],
            .verify_request = verify_request,
            .service_actions = read_again,
            .poll_interval_ms = 100,
            .reuse_address = true)) < 0 ||
        read_rules(server) < 0) {
        fprintf(stderr, "access: %s\n", weir_why());
        return 2;
    }
    signal(SIGHUP, ask);
    weir_server_address(server, 0, address, sizeof(address));
    fprintf(stderr, "access: listening on %s\n", address);
    if (weir_serve_forever(server) < 0) {
        fprintf(stderr, "access: %s\n", weir_why());
        return 1;
    }
    weir_server_destroy(server);
    return 0;
}
