"""Calls of Linux that a program which is shut in is refused, by their numbers on x86_64 and aarch64."""
import dataclasses
import os

# name: (x86_64, aarch64), where there is such a call
OTHERS = {  # other processes, and memory of theirs
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "kcmp": (312, 272), "pidfd_getfd": (438, 438), "process_madvise": (440, 440),
    "process_mrelease": (448, 448), "move_pages": (279, 239), "migrate_pages": (256, 238)}
MOUNTS = {
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "move_mount": (429, 429),
    "open_tree": (428, 428), "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432),
    "fspick": (433, 433), "mount_setattr": (442, 442), "statmount": (457, 457), "listmount": (458, 458),
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265), "fanotify_init": (300, 262),
    "quotactl": (179, 60), "quotactl_fd": (443, 443), "swapon": (167, 224), "swapoff": (168, 225)}
KERNEL = {  # doors through which kernels have been broken, and what is the machine's
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219), "bpf": (321, 280),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "setns": (308, 268),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "init_module": (175, 105),
    "finit_module": (313, 273), "delete_module": (176, 106), "reboot": (169, 142), "acct": (163, 89),
    "syslog": (103, 116), "vhangup": (153, 58), "settimeofday": (164, 170), "clock_settime": (227, 112),
    "adjtimex": (159, 171), "clock_adjtime": (305, 266), "sethostname": (170, 161),
    "setdomainname": (171, 162), "lookup_dcookie": (212, 18), "nfsservctl": (180, 42),
    "iopl": (172, None), "ioperm": (173, None), "modify_ldt": (154, None), "uselib": (134, None),
    "ustat": (136, None), "sysfs": (139, None), "_sysctl": (156, None), "create_module": (174, None),
    "get_kernel_syms": (177, None), "query_module": (178, None), "vserver": (236, None)}
UNCOUNTED = {  # memory that no process and no folder shows
    "memfd_create": (319, 279), "memfd_secret": (447, 447), "shmget": (29, 194), "msgget": (68, 186),
    "semget": (64, 190), "mq_open": (240, 180)}
ROOMS = {"unshare": (272, 97), "chroot": (161, 51)}  # of one's own
ASKED_FOR = {"clone": (56, 220), "clone3": (435, 435), "socket": (41, 198), "socketpair": (53, 199),
             "ioctl": (16, 29), "personality": (135, 92)}  # whether they are refused lies in their arguments
NEWEST = 462  # mseal, in Linux 6.10: those after it are not known here

# For what makes a sandbox.
OWN = {"pivot_root": MOUNTS["pivot_root"], "mount_setattr": MOUNTS["mount_setattr"], "capset": (126, 91)}


@dataclasses.dataclass(frozen=True)
class Machine:
    """A kind of processor, as Linux has it.

    Attributes:
      arch: its number in seccomp's data.
      column: of the tables above.
    """
    arch: int
    column: int

    def numbers(self, *tables: dict[str, tuple[int, int | None]]) -> dict[str, int]:
        """{name: number} of the calls that it has."""
        rows = {name: row[self.column] for table in tables for name, row in table.items()}
        return {name: number for name, number in rows.items() if number is not None}


MACHINES = {"x86_64": Machine(0xC000003E, 0), "aarch64": Machine(0xC00000B7, 1)}


def this_machine() -> Machine | None:
    """None: there are no tables for it."""
    return MACHINES.get(os.uname().machine)
