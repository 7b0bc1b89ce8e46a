/* owner_test.c - users and groups by name and by number. Every system has root, and 0 is it. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/base/owner.h"

#include <errno.h>
#include <string.h>

static char why[400];

static struct owner parsed(const char *text)
{
    struct owner owner;

    if (owner_parse(text, &owner, why, sizeof(why)) < 0)
        fail_msg("%s", why);
    return owner;
}

static void assert_refused(const char *text, const char *sentence)
{
    struct owner owner = { .uid = 77, .gid = 78 };

    assert_int_equal(owner_parse(text, &owner, why, sizeof(why)), -EINVAL);
    assert_string_equal(why, sentence);
    assert_true(owner.uid == 77 && owner.gid == 78);
}

static void names_are_looked_up(void **state)
{
    struct owner owner = parsed("root:root");

    (void)state;
    assert_true(owner.set_uid && owner.set_gid);
    assert_true(owner.uid == 0 && owner.gid == 0);
}

static void numbers_stand_for_themselves(void **state)
{
    struct owner owner = parsed("12345:4294967294");

    (void)state;
    assert_true(owner.set_uid && owner.set_gid);
    assert_int_equal(owner.uid, 12345);
    assert_true(owner.gid == 4294967294);
}

static void either_may_be_left_out(void **state)
{
    (void)state;
    assert_true(parsed("12345").set_uid && !parsed("12345").set_gid);
    assert_true(!parsed(":12345").set_uid && parsed(":12345").set_gid);
    assert_int_equal(parsed(":12345").gid, 12345);
}

static void who_does_not_exist_is_refused(void **state)
{
    (void)state;
    assert_refused("no one", "no one: there is no user 'no one'");
    assert_refused("0:no group", "0:no group: there is no group 'no group'");
    assert_refused("-1", "-1: there is no user '-1'");
    /* This number means "unchanged" to the kernel. */
    assert_refused("4294967295", "4294967295: there is no user '4294967295'");
    assert_refused("0:99999999999999999999",
                   "0:99999999999999999999: there is no group '99999999999999999999'");
}

static void nobody_at_all_is_refused(void **state)
{
    char long_name[400];

    (void)state;
    assert_refused("", "\"\": it must be USER, USER:GROUP or :GROUP");
    assert_refused(":", ":: it must be USER, USER:GROUP or :GROUP");
    assert_refused("root:", "root:: it must be USER, USER:GROUP or :GROUP");
    memset(long_name, 'x', sizeof(long_name) - 1);
    long_name[sizeof(long_name) - 1] = '\0';
    assert_int_equal(owner_parse(long_name, &(struct owner){ 0 }, why, sizeof(why)), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_looked_up),
        cmocka_unit_test(numbers_stand_for_themselves),
        cmocka_unit_test(either_may_be_left_out),
        cmocka_unit_test(who_does_not_exist_is_refused),
        cmocka_unit_test(nobody_at_all_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
