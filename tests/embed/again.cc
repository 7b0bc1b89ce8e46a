/* again.cc - a library of C++ for a program of C: throws each line again after it has waited. */
#include <stdexcept>
#include <string>

#include <weir/weir.h>

extern "C" int handle_again(weir_request *req)
{
    char *line;
    ssize_t n = weir_readline(req, &line, 100);

    if (n <= 0)
        return static_cast<int>(n);
    try {
        try {
            throw std::runtime_error(std::string(line, static_cast<size_t>(n)));
        } catch (const std::exception &) {
            weir_write(req, "go\n", 3);
            weir_readline(req, &line, 100);
            throw;
        }
    } catch (const std::exception &e) {
        weir_printf(req, "%s", e.what());
    }
    return 0;
}
