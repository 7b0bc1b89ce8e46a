#include <cctype>
#include <iostream>
#include <weir/weir.hpp>

int main()
{
    weir::handler upper("upper", [](weir::request req) {
        weir::input line;

        while ((line = req.read_line(4096))) {
            for (char &c : line)
                c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
            req.write(line);
        }
        return line.status();       // 0 at the end of the input, or an error
    });
    weir::options options;

    upper.client_first = true;
    options.listen = "tcp://127.0.0.1:9999";
    options.handler = &upper;
    options.reuse_address = true;
    try {
        weir::server(options).serve_forever();
    } catch (const std::system_error &e) {
        std::cerr << e.what() << '\n';
        return 1;
    }
}
