"""A static archive of libraries and all that they consist of, for programs built without Bazel."""

load("@rules_cc//cc:find_cc_toolchain.bzl", "find_cc_toolchain", "use_cc_toolchain")
load("@rules_cc//cc/common:cc_info.bzl", "CcInfo")

def _objects_by_folder(libraries):
    """The object files of libraries and their dependencies: lists, by the folder of the source."""
    folders = {}
    for linked in _linked(libraries):
        objects = folders.setdefault(linked.owner.package, [])
        for part in linked.libraries:
            objects.extend(part.pic_objects or part.objects)
    return {folder: objects for folder, objects in folders.items() if objects}

def _archives(libraries):
    """The archives of the system that are linked by their files' names, as with -l:NAME.a: the names."""
    return [
        flag[len("-l:"):]
        for linked in _linked(libraries)
        for flag in linked.user_link_flags
        if flag.startswith("-l:")
    ]

def _linked(libraries):
    return [
        linked
        for library in libraries
        for linked in library[CcInfo].linking_context.linker_inputs.to_list()
    ]

def _join(ctx, toolchain, folder, objects, archives):
    """One object of many, in which only weir_... is global, and which is machine code alone.

    The names that modules have for each other neither clash with those of a program, nor does a
    program's function of such a name silently take the place of ours. What the objects need of the
    archives becomes part of it, and is as hidden: a program's own Boost may be another one.
    """
    joined = ctx.actions.declare_file("%s/%s.o" % (ctx.label.name, folder.replace("/", "_")))
    ctx.actions.run_shell(
        command = """
            cc=$1 ld=$2 objcopy=$3 joined=$4 archives=$5
            shift 5
            for archive in $archives; do
                set -- "$@" "$($cc -print-file-name=$archive)"
            done
            $ld -r -o $joined "$@" && $objcopy --wildcard --keep-global-symbol='weir_*' \\
                --remove-section='.gnu.lto_*' --remove-section='.gnu.debuglto_*' $joined
        """,
        arguments = [
            toolchain.compiler_executable,
            toolchain.ld_executable,
            toolchain.objcopy_executable,
            joined.path,
            " ".join(archives),
        ] + [object.path for object in objects],
        inputs = depset(objects, transitive = [toolchain.all_files]),
        outputs = [joined],
        mnemonic = "JoinObjects",
    )
    return joined

def _static_archive_impl(ctx):
    toolchain = find_cc_toolchain(ctx)
    archive = ctx.actions.declare_file(ctx.label.name + ".a")
    objects = [
        _join(ctx, toolchain, folder, objects, _archives(ctx.attr.deps))
        for folder, objects in _objects_by_folder(ctx.attr.deps).items()
    ]
    ctx.actions.run(
        executable = toolchain.ar_executable,
        arguments = ["rcsD", archive.path] + [object.path for object in objects],
        inputs = depset(objects, transitive = [toolchain.all_files]),
        outputs = [archive],
        mnemonic = "StaticArchive",
    )
    return [DefaultInfo(files = depset([archive]))]

static_archive = rule(
    implementation = _static_archive_impl,
    attrs = {
        "deps": attr.label_list(providers = [CcInfo]),
        "_cc_toolchain": attr.label(default = "@rules_cc//cc:current_cc_toolchain"),
    },
    toolchains = use_cc_toolchain(),
)
