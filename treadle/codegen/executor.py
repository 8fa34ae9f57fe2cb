"""LLVM text of the native loop that runs a Plan: each thread walks its own records, a whole step is one native call.

The layouts of records, programs and the shared context are the constants below; `runtime` fills memory by them.

    record   [fn | WAIT | END, args | thread, lo | count, hi, kernel]   five i64; `fn` is a kernel's address
    program  [num_threads, (records, num_finished) per thread]          num_finished = its runs, and 1 for END
    context  command line, allowed CPUs, the CPU of each thread, then one block per thread: doorbell line, progress line

Threads share nothing but cache lines of the context. Thread t's `progress` is `step << STEP_SHIFT | finished records`,
so no counter is ever reset: comparing by signed difference makes stale and wrapped values come out as "not yet".
"""

from string import Template

END = 0
WAIT = 1
RECORD_NBYTES = 40
PROGRAM_HEADER_NBYTES = 8
PROGRAM_THREAD_NBYTES = 16

# The command line of the context, written by the caller before it rings.
COMMAND_PROGRAM = 0
COMMAND_SLOTS = 8
COMMAND_STAMPS = 16
COMMAND_STEP = 24
COMMAND_SPIN_TICKS = 32
COMMAND_PATIENCE_TICKS = 40
COMMAND_HOP_TICKS = 48
ALLOWED_CPUS = 128
ALLOWED_CPUS_NBYTES = 128
CPU_TABLE = 256

# Doorbell and progress lie two lines apart: the adjacent-line prefetcher would otherwise make them one.
MAX_THREADS = 1024
THREAD_BASE = CPU_TABLE + 4 * MAX_THREADS
THREAD_STRIDE = 256
THREAD_DOORBELL = 0
THREAD_ASLEEP = 4
THREAD_SCRATCH = 8
THREAD_LAST_HOP = 16
THREAD_PROGRESS = 128
THREAD_SLEEPERS = 136

STEP_SHIFT = 24
MAX_RECORDS = (1 << STEP_SHIFT) - 2
CONTEXT_NBYTES = THREAD_BASE + MAX_THREADS * THREAD_STRIDE

RUN = "treadle_run"
RUN_ALONE = "treadle_run_alone"
WORKER = "treadle_worker"
STOP = "treadle_stop"
CLOCK = "treadle_clock"

# The only machine-dependent part: a spin hint, the number of this CPU, and the system calls.
_X86_64 = {
    "PAUSE": "call void @llvm.x86.sse2.pause()",
    "DECLARE": "declare void @llvm.x86.sse2.pause()\ndeclare { i64, i32 } @llvm.x86.rdtscp()",
    # Linux keeps the CPU in the low twelve bits of what RDTSCP gives beside the time.
    "HERE": "%pair = call { i64, i32 } @llvm.x86.rdtscp()\n"
    "  %aux = extractvalue { i64, i32 } %pair, 1\n"
    "  %cpu = and i32 %aux, 4095",
    "SYSCALL": (
        'call i64 asm sideeffect "syscall", "={rax},{rax},{rdi},{rsi},{rdx},{r10},{r8},{r9},'
        '~{rcx},~{r11},~{memory},~{dirflag},~{fpsr},~{flags}"'
    ),
    "FUTEX": "202",
    "YIELD": "24",
    "SETAFFINITY": "203",
    "GETCPU": "309",
}

_SYSTEM = Template("""\
$DECLARE
declare i64 @llvm.readcyclecounter()

; FUTEX_WAIT_PRIVATE (128) sleeps while *address == value; FUTEX_WAKE_PRIVATE (129) wakes `value` sleepers.
define internal void @futex(ptr %address, i64 %operation, i64 %value) noinline {
  %word = ptrtoint ptr %address to i64
  %result = $SYSCALL(i64 $FUTEX, i64 %word, i64 %operation, i64 %value, i64 0, i64 0, i64 0)
  ret void
}

define internal void @yield() noinline {
  %result = $SYSCALL(i64 $YIELD, i64 0, i64 0, i64 0, i64 0, i64 0, i64 0)
  ret void
}

define internal i32 @here() noinline {
  $HERE
  ret i32 %cpu
}

define i64 @treadle_clock() {
  %ticks = call i64 @llvm.readcyclecounter()
  ret i64 %ticks
}
""")

# Returns when the progress at %line has reached %target. Spins at first; then offers the core to others at every turn,
# because the awaited thread may be queued behind this one; then sleeps.
_AWAIT = Template("""\
define internal void @await(ptr %context, ptr %line, i64 %target) noinline {
entry:
  %sleepers = getelementptr i8, ptr %line, i64 $SLEEPERS
  %at_once = load atomic i64, ptr %line acquire, align 8
  %at_once_ahead = sub i64 %at_once, %target
  %at_once_done = icmp sge i64 %at_once_ahead, 0
  br i1 %at_once_done, label %exit, label %start
start:
  %spin_at = getelementptr i8, ptr %context, i64 $COMMAND_SPIN_TICKS
  %patience_at = getelementptr i8, ptr %context, i64 $COMMAND_PATIENCE_TICKS
  %spin_ticks = load atomic i64, ptr %spin_at monotonic, align 8
  %patience = load atomic i64, ptr %patience_at monotonic, align 8
  %begin = call i64 @llvm.readcyclecounter()
  br label %spin
spin:
  $PAUSE
  %seen = load atomic i64, ptr %line acquire, align 8
  %seen_ahead = sub i64 %seen, %target
  %seen_done = icmp sge i64 %seen_ahead, 0
  br i1 %seen_done, label %exit, label %clock
clock:
  %now = call i64 @llvm.readcyclecounter()
  %elapsed = sub i64 %now, %begin
  %spun = icmp ugt i64 %elapsed, %spin_ticks
  br i1 %spun, label %polite, label %spin
polite:
  call void @yield()
  %after = load atomic i64, ptr %line acquire, align 8
  %after_ahead = sub i64 %after, %target
  %after_done = icmp sge i64 %after_ahead, 0
  br i1 %after_done, label %exit, label %again
again:
  %later = call i64 @llvm.readcyclecounter()
  %waited = sub i64 %later, %begin
  %spent = icmp ugt i64 %waited, %patience
  br i1 %spent, label %sleep, label %polite
sleep:
  %one_more = atomicrmw add ptr %sleepers, i32 1 seq_cst
  br label %doze
doze:
  %last = load atomic i64, ptr %line seq_cst, align 8
  %last_ahead = sub i64 %last, %target
  %last_done = icmp sge i64 %last_ahead, 0
  br i1 %last_done, label %awake, label %block
block:
  %low = and i64 %last, 4294967295
  call void @futex(ptr %line, i64 128, i64 %low)
  br label %doze
awake:
  %one_less = atomicrmw sub ptr %sleepers, i32 1 seq_cst
  br label %exit
exit:
  ret void
}
""")

# Called by a worker that is about to work. Systems often wake a thread on the CPU of the one that woke it and leave
# both there, so that they take turns while another CPU idles. A worker that finds the caller or a lower worker on its
# own CPU therefore gives its affinity all allowed CPUs but those of the others; it keeps that until it collides again.
_SETTLE = Template("""\
define internal void @settle(ptr %context, i64 %t, i64 %num_threads) noinline {
entry:
  %mask = alloca [$MASK_WORDS x i64], align 8
  %truth = alloca i32, align 4
  %table = getelementptr i8, ptr %context, i64 $CPU_TABLE
  %mine = getelementptr i32, ptr %table, i64 %t
  %cpu = call i32 @here()
  %known = load atomic i32, ptr %mine monotonic, align 4
  %stays = icmp eq i32 %cpu, %known
  br i1 %stays, label %look, label %publish
publish:
  store atomic i32 %cpu, ptr %mine monotonic, align 4
  br label %look
look:
  %j = phi i64 [ 0, %entry ], [ 0, %publish ], [ %next_j, %other ]
  %more_j = icmp ult i64 %j, %t
  br i1 %more_j, label %other, label %exit
other:
  %j_at = getelementptr i32, ptr %table, i64 %j
  %j_cpu = load atomic i32, ptr %j_at monotonic, align 4
  %next_j = add i64 %j, 1
  %same = icmp eq i32 %j_cpu, %cpu
  br i1 %same, label %collision, label %look
collision:
  %block_offset = mul i64 %t, $STRIDE
  %block = getelementptr i8, ptr %context, i64 %block_offset
  %last_at = getelementptr i8, ptr %block, i64 $LAST_HOP
  %hop_at = getelementptr i8, ptr %context, i64 $COMMAND_HOP_TICKS
  %hop_ticks = load atomic i64, ptr %hop_at monotonic, align 8
  %now = call i64 @llvm.readcyclecounter()
  %last = load i64, ptr %last_at, align 8
  %since = sub i64 %now, %last
  %too_soon = icmp ult i64 %since, %hop_ticks
  br i1 %too_soon, label %exit, label %fill
fill:
  %w = phi i64 [ 0, %collision ], [ %next_w, %fill ]
  %from_base = getelementptr i8, ptr %context, i64 $ALLOWED_CPUS
  %from = getelementptr i64, ptr %from_base, i64 %w
  %to = getelementptr i64, ptr %mask, i64 %w
  %word = load i64, ptr %from, align 8
  store i64 %word, ptr %to, align 8
  %next_w = add i64 %w, 1
  %more_w = icmp ult i64 %next_w, $MASK_WORDS
  br i1 %more_w, label %fill, label %clear
clear:
  %k = phi i64 [ 0, %fill ], [ %next_k, %clear_next ]
  %more_k = icmp ult i64 %k, %num_threads
  br i1 %more_k, label %clear_one, label %count
clear_one:
  %is_mine = icmp eq i64 %k, %t
  br i1 %is_mine, label %clear_next, label %clear_bit
clear_bit:
  %k_at = getelementptr i32, ptr %table, i64 %k
  %k_cpu = load atomic i32, ptr %k_at monotonic, align 4
  %k_wide = zext i32 %k_cpu to i64
  %k_bounded = and i64 %k_wide, $LAST_CPU
  %k_word = lshr i64 %k_bounded, 6
  %k_place = and i64 %k_bounded, 63
  %bit = shl i64 1, %k_place
  %keep = xor i64 %bit, -1
  %word_at = getelementptr i64, ptr %mask, i64 %k_word
  %before = load i64, ptr %word_at, align 8
  %after = and i64 %before, %keep
  store i64 %after, ptr %word_at, align 8
  br label %clear_next
clear_next:
  %next_k = add i64 %k, 1
  br label %clear
count:
  %c = phi i64 [ 0, %clear ], [ %next_c, %count ]
  %any = phi i64 [ 0, %clear ], [ %next_any, %count ]
  %c_at = getelementptr i64, ptr %mask, i64 %c
  %c_word = load i64, ptr %c_at, align 8
  %next_any = or i64 %any, %c_word
  %next_c = add i64 %c, 1
  %more_c = icmp ult i64 %next_c, $MASK_WORDS
  br i1 %more_c, label %count, label %decide
decide:
  store i64 %now, ptr %last_at, align 8
  %nowhere = icmp eq i64 %next_any, 0
  br i1 %nowhere, label %exit, label %hop
hop:
  %mask_word = ptrtoint ptr %mask to i64
  %moved = $SYSCALL(i64 $SETAFFINITY, i64 0, i64 $MASK_NBYTES, i64 %mask_word, i64 0, i64 0, i64 0)
  %truth_word = ptrtoint ptr %truth to i64
  %asked = $SYSCALL(i64 $GETCPU, i64 %truth_word, i64 0, i64 0, i64 0, i64 0, i64 0)
  %there = load i32, ptr %truth, align 4
  store atomic i32 %there, ptr %mine monotonic, align 4
  br label %exit
exit:
  ret void
}
""")

# One thread's walk over its records. %all_stamps is null or receives (start, stop) ticks of each record, waits too.
_WALK = Template("""\
define internal void @$NAME(ptr %first, ptr %slots, ptr %scratch, ptr %all_stamps$PARAMETERS) noinline {
entry:
$ENTRY
  %timed = icmp ne ptr %all_stamps, null
  br label %next
next:
  %record = phi ptr [ %first, %entry ], [ %next_record, %advance ]
  %stamps = phi ptr [ %all_stamps, %entry ], [ %next_stamps, %advance ]
  %count = phi i64 [ 0, %entry ], [ %next_count, %advance ]
  br i1 %timed, label %note_start, label %fetch
note_start:
  %start = call i64 @llvm.readcyclecounter()
  store i64 %start, ptr %stamps, align 8
  br label %fetch
fetch:
  %kind = load i64, ptr %record, align 8
  %args_at = getelementptr i64, ptr %record, i64 1
  %lo_at = getelementptr i64, ptr %record, i64 2
  %lo = load i64, ptr %lo_at, align 8
$DISPATCH
run:
  %args = load ptr, ptr %args_at, align 8
  %hi_at = getelementptr i64, ptr %record, i64 3
  %hi = load i64, ptr %hi_at, align 8
  %fn = inttoptr i64 %kind to ptr
  call void %fn(ptr %slots, ptr %args, i64 %lo, i64 %hi, ptr %scratch)
  %finished = add i64 %count, 1
$PUBLISH
done:
  %next_count = phi i64 [ %finished, %run_done ]$FROM_WAIT
  br i1 %timed, label %note_stop, label %advance
note_stop:
  %stop = call i64 @llvm.readcyclecounter()
  %stop_at = getelementptr i64, ptr %stamps, i64 1
  store i64 %stop, ptr %stop_at, align 8
  br label %advance
advance:
  %next_record = getelementptr i8, ptr %record, i64 $RECORD_NBYTES
  %next_stamps = getelementptr i8, ptr %stamps, i64 16
  br label %next
end:
$FINISH
  ret void
}
""")

# The exchange is a full barrier, which a release store is not: it orders this store before the load of `sleepers`,
# and on x86 it also drains the write-combining buffers of kernels that used non-temporal stores.
_PUBLISH = Template("""\
  %stamp$TAG = add i64 %step, $COUNT
  %before$TAG = atomicrmw xchg ptr %progress, i64 %stamp$TAG seq_cst
  %waiting$TAG = load atomic i32, ptr %sleepers seq_cst, align 4
  %idle$TAG = icmp eq i32 %waiting$TAG, 0
  br i1 %idle$TAG, label %$THEN, label %wake$TAG
wake$TAG:
  call void @futex(ptr %progress, i64 129, i64 2147483647)
  br label %$THEN
$THEN:""")

_SHARED_ENTRY = Template("""\
  %progress = getelementptr i8, ptr %thread, i64 $PROGRESS
  %sleepers = getelementptr i8, ptr %thread, i64 $THREAD_SLEEPERS""")

_SHARED_DISPATCH = Template("""\
  switch i64 %kind, label %run [ i64 $END, label %end
                                 i64 $WAIT, label %wait ]
wait:
  %other = load i64, ptr %args_at, align 8
  %other_offset = mul i64 %other, $STRIDE
  %other_block = getelementptr i8, ptr %context, i64 %other_offset
  %other_line = getelementptr i8, ptr %other_block, i64 $OTHER_PROGRESS
  %target = add i64 %step, %lo
  call void @await(ptr %context, ptr %other_line, i64 %target)
  br label %done""")

_ALONE_DISPATCH = Template("""\
  %over = icmp eq i64 %kind, $END
  br i1 %over, label %end, label %run""")

_CALLER = Template("""\
define void @treadle_run_alone(ptr %records, ptr %slots, ptr %scratch, ptr %stamps) {
  call void @walk_alone(ptr %records, ptr %slots, ptr %scratch, ptr %stamps)
  ret void
}

; Rings every worker of the program, walks thread 0's records, and returns when every worker has finished its END.
define void @treadle_run(ptr %context, ptr %program, ptr %slots, ptr %all_stamps) {
entry:
  %program_at = getelementptr i8, ptr %context, i64 $COMMAND_PROGRAM
  %slots_at = getelementptr i8, ptr %context, i64 $COMMAND_SLOTS
  %stamps_at = getelementptr i8, ptr %context, i64 $COMMAND_STAMPS
  %step_at = getelementptr i8, ptr %context, i64 $COMMAND_STEP
  store ptr %program, ptr %program_at, align 8
  store ptr %slots, ptr %slots_at, align 8
  store ptr %all_stamps, ptr %stamps_at, align 8
  %last_step = load i64, ptr %step_at, align 8
  %step = add i64 %last_step, $ONE_STEP
  store i64 %step, ptr %step_at, align 8
  %num_threads = load i64, ptr %program, align 8
  %cpu_at = getelementptr i8, ptr %context, i64 $CPU_TABLE
  %cpu = call i32 @here()
  %known_cpu = load atomic i32, ptr %cpu_at monotonic, align 4
  %stays = icmp eq i32 %cpu, %known_cpu
  br i1 %stays, label %go, label %moved
moved:
  store atomic i32 %cpu, ptr %cpu_at monotonic, align 4
  br label %go
go:
  br label %ring
ring:
  %r = phi i64 [ 1, %go ], [ %next_r, %ring_one ]
  %more_r = icmp ult i64 %r, %num_threads
  br i1 %more_r, label %ring_one, label %rung
ring_one:
  %r_offset = mul i64 %r, $STRIDE
  %r_block = getelementptr i8, ptr %context, i64 %r_offset
  %r_bell = getelementptr i8, ptr %r_block, i64 $DOORBELL
  %r_old = load atomic i32, ptr %r_bell monotonic, align 4
  %r_new = add i32 %r_old, 1
  store atomic i32 %r_new, ptr %r_bell release, align 4
  %next_r = add i64 %r, 1
  br label %ring
rung:
  fence seq_cst
  br label %rouse
rouse:
  %w = phi i64 [ 1, %rung ], [ %next_w, %rouse_next ]
  %more_w = icmp ult i64 %w, %num_threads
  br i1 %more_w, label %rouse_one, label %work
rouse_one:
  %w_offset = mul i64 %w, $STRIDE
  %w_block = getelementptr i8, ptr %context, i64 %w_offset
  %w_bell = getelementptr i8, ptr %w_block, i64 $DOORBELL
  %w_asleep_at = getelementptr i8, ptr %w_block, i64 $ASLEEP
  %w_asleep = load atomic i32, ptr %w_asleep_at seq_cst, align 4
  %w_awake = icmp eq i32 %w_asleep, 0
  br i1 %w_awake, label %rouse_next, label %rouse_wake
rouse_wake:
  call void @futex(ptr %w_bell, i64 129, i64 1)
  br label %rouse_next
rouse_next:
  %next_w = add i64 %w, 1
  br label %rouse
work:
  call void @walk_thread(ptr %context, ptr %program, ptr %slots, ptr %all_stamps, i64 %step, i64 0)
  br label %join
join:
  %j = phi i64 [ 1, %work ], [ %next_j, %join_one ]
  %more_j = icmp ult i64 %j, %num_threads
  br i1 %more_j, label %join_one, label %exit
join_one:
  %j_offset = mul i64 %j, $STRIDE
  %j_block = getelementptr i8, ptr %context, i64 %j_offset
  %j_progress = getelementptr i8, ptr %j_block, i64 $PROGRESS
  %j_entry_offset = mul i64 %j, $PROGRAM_THREAD_NBYTES
  %j_entry = getelementptr i8, ptr %program, i64 %j_entry_offset
  %j_finished_at = getelementptr i8, ptr %j_entry, i64 $FINISHED
  %j_finished = load i64, ptr %j_finished_at, align 8
  %j_target = add i64 %step, %j_finished
  call void @await(ptr %context, ptr %j_progress, i64 %j_target)
  %next_j = add i64 %j, 1
  br label %join
exit:
  ret void
}

define internal void @walk_thread(ptr %context, ptr %program, ptr %slots, ptr %all_stamps,
                                  i64 %step, i64 %t) noinline {
entry:
  %offset = mul i64 %t, $STRIDE
  %block_offset = add i64 %offset, $THREAD_BASE
  %block = getelementptr i8, ptr %context, i64 %block_offset
  %scratch_at = getelementptr i8, ptr %block, i64 $SCRATCH
  %scratch = load ptr, ptr %scratch_at, align 8
  %entry_offset = mul i64 %t, $PROGRAM_THREAD_NBYTES
  %entry_at = getelementptr i8, ptr %program, i64 %entry_offset
  %records_at = getelementptr i8, ptr %entry_at, i64 $PROGRAM_HEADER_NBYTES
  %records = load ptr, ptr %records_at, align 8
  %plain = icmp eq ptr %all_stamps, null
  br i1 %plain, label %go, label %timed
timed:
  %stamps_at = getelementptr ptr, ptr %all_stamps, i64 %t
  %mine = load ptr, ptr %stamps_at, align 8
  br label %go
go:
  %stamps = phi ptr [ null, %entry ], [ %mine, %timed ]
  call void @walk_shared(ptr %records, ptr %slots, ptr %scratch, ptr %stamps,
                         ptr %context, ptr %block, i64 %step)
  ret void
}
""")

# A worker returns only when it is rung without a program: between steps it spins, then sleeps on its doorbell.
_WORKER = Template("""\
define void @treadle_worker(ptr %context, i64 %t) {
entry:
  %offset = mul i64 %t, $STRIDE
  %block_offset = add i64 %offset, $THREAD_BASE
  %bell = getelementptr i8, ptr %context, i64 %block_offset
  %asleep = getelementptr i8, ptr %bell, i64 $THREAD_ASLEEP
  %program_at = getelementptr i8, ptr %context, i64 $COMMAND_PROGRAM
  %slots_at = getelementptr i8, ptr %context, i64 $COMMAND_SLOTS
  %stamps_at = getelementptr i8, ptr %context, i64 $COMMAND_STAMPS
  %step_at = getelementptr i8, ptr %context, i64 $COMMAND_STEP
  %spin_at = getelementptr i8, ptr %context, i64 $COMMAND_SPIN_TICKS
  %patience_at = getelementptr i8, ptr %context, i64 $COMMAND_PATIENCE_TICKS
  br label %idle
idle:
  %last = phi i32 [ 0, %entry ], [ %rung, %work ]
  %spin_ticks = load atomic i64, ptr %spin_at monotonic, align 8
  %patience = load atomic i64, ptr %patience_at monotonic, align 8
  %begin = call i64 @llvm.readcyclecounter()
  br label %spin
spin:
  %heard = load atomic i32, ptr %bell acquire, align 4
  %new = icmp ne i32 %heard, %last
  br i1 %new, label %answer, label %clock
clock:
  $PAUSE
  %now = call i64 @llvm.readcyclecounter()
  %elapsed = sub i64 %now, %begin
  %spun = icmp ugt i64 %elapsed, %spin_ticks
  br i1 %spun, label %polite, label %spin
polite:
  call void @yield()
  %spent = icmp ugt i64 %elapsed, %patience
  br i1 %spent, label %sleep, label %spin
sleep:
  store atomic i32 1, ptr %asleep seq_cst, align 4
  %last_word = zext i32 %last to i64
  br label %doze
doze:
  %woken = load atomic i32, ptr %bell seq_cst, align 4
  %called = icmp ne i32 %woken, %last
  br i1 %called, label %awake, label %block
block:
  call void @futex(ptr %bell, i64 128, i64 %last_word)
  br label %doze
awake:
  store atomic i32 0, ptr %asleep release, align 4
  br label %answer
answer:
  %rung = phi i32 [ %heard, %spin ], [ %woken, %awake ]
  %program = load ptr, ptr %program_at, align 8
  %stop = icmp eq ptr %program, null
  br i1 %stop, label %exit, label %work
work:
  %slots = load ptr, ptr %slots_at, align 8
  %stamps = load ptr, ptr %stamps_at, align 8
  %step = load i64, ptr %step_at, align 8
  %num_threads = load i64, ptr %program, align 8
  call void @settle(ptr %context, i64 %t, i64 %num_threads)
  call void @walk_thread(ptr %context, ptr %program, ptr %slots, ptr %stamps, i64 %step, i64 %t)
  br label %idle
exit:
  ret void
}

; Sends workers 1 .. num_threads - 1 home: they return to whoever started them.
define void @treadle_stop(ptr %context, i64 %num_threads) {
entry:
  %program_at = getelementptr i8, ptr %context, i64 $COMMAND_PROGRAM
  store ptr null, ptr %program_at, align 8
  br label %ring
ring:
  %r = phi i64 [ 1, %entry ], [ %next_r, %ring_one ]
  %more = icmp ult i64 %r, %num_threads
  br i1 %more, label %ring_one, label %exit
ring_one:
  %offset = mul i64 %r, $STRIDE
  %block = getelementptr i8, ptr %context, i64 %offset
  %bell = getelementptr i8, ptr %block, i64 $DOORBELL
  %old = atomicrmw add ptr %bell, i32 1 seq_cst
  call void @futex(ptr %bell, i64 129, i64 1)
  %next_r = add i64 %r, 1
  br label %ring
exit:
  ret void
}
""")


def executor_text() -> str:
    """The LLVM text of the module; its entry points are named by RUN, RUN_ALONE, WORKER, STOP and CLOCK."""
    layout = {
        **_X86_64,
        "END": END,
        "WAIT": WAIT,
        "RECORD_NBYTES": RECORD_NBYTES,
        "PROGRAM_HEADER_NBYTES": PROGRAM_HEADER_NBYTES,
        "PROGRAM_THREAD_NBYTES": PROGRAM_THREAD_NBYTES,
        "FINISHED": PROGRAM_HEADER_NBYTES + 8,
        "COMMAND_PROGRAM": COMMAND_PROGRAM,
        "COMMAND_SLOTS": COMMAND_SLOTS,
        "COMMAND_STAMPS": COMMAND_STAMPS,
        "COMMAND_STEP": COMMAND_STEP,
        "COMMAND_SPIN_TICKS": COMMAND_SPIN_TICKS,
        "COMMAND_PATIENCE_TICKS": COMMAND_PATIENCE_TICKS,
        "ONE_STEP": 1 << STEP_SHIFT,
        "COMMAND_HOP_TICKS": COMMAND_HOP_TICKS,
        "ALLOWED_CPUS": ALLOWED_CPUS,
        "MASK_NBYTES": ALLOWED_CPUS_NBYTES,
        "MASK_WORDS": ALLOWED_CPUS_NBYTES // 8,
        "LAST_CPU": 8 * ALLOWED_CPUS_NBYTES - 1,
        "CPU_TABLE": CPU_TABLE,
        "STRIDE": THREAD_STRIDE,
        "THREAD_BASE": THREAD_BASE,
        "THREAD_ASLEEP": THREAD_ASLEEP,
        "THREAD_SLEEPERS": THREAD_SLEEPERS,
        "SCRATCH": THREAD_SCRATCH,
        # Offsets from `context + t * STRIDE`, so that the addition of THREAD_BASE is free.
        "DOORBELL": THREAD_BASE + THREAD_DOORBELL,
        "ASLEEP": THREAD_BASE + THREAD_ASLEEP,
        "PROGRESS": THREAD_BASE + THREAD_PROGRESS,
        "LAST_HOP": THREAD_BASE + THREAD_LAST_HOP,
    }
    walk_shared = _WALK.substitute(
        layout,
        NAME="walk_shared",
        PARAMETERS=", ptr %context, ptr %thread, i64 %step",
        ENTRY=_SHARED_ENTRY.substitute(layout, PROGRESS=THREAD_PROGRESS),
        DISPATCH=_SHARED_DISPATCH.substitute(layout, OTHER_PROGRESS=THREAD_BASE + THREAD_PROGRESS),
        PUBLISH=_PUBLISH.substitute(TAG="_run", COUNT="%finished", THEN="run_done") + "\n  br label %done",
        FROM_WAIT=", [ %count, %wait ]",
        FINISH="  %all = add i64 %count, 1\n" + _PUBLISH.substitute(TAG="_end", COUNT="%all", THEN="all_done"),
    )
    walk_alone = _WALK.substitute(
        layout,
        NAME="walk_alone",
        PARAMETERS="",
        ENTRY="",
        DISPATCH=_ALONE_DISPATCH.substitute(layout),
        PUBLISH="  br label %run_done\nrun_done:\n  br label %done",
        FROM_WAIT="",
        FINISH="",
    )
    awaiting = _AWAIT.substitute(layout, SLEEPERS=THREAD_SLEEPERS - THREAD_PROGRESS)
    system, settle, caller, worker = (t.substitute(layout) for t in (_SYSTEM, _SETTLE, _CALLER, _WORKER))
    return "\n".join((system, awaiting, settle, walk_shared, walk_alone, caller, worker))
