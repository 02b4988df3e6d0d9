#include "pool.h"

#include <unistd.h>

#include <utility>

#include "float_mode.h"

namespace alexandra {

namespace {

constexpr int kSpins = 1000;

inline void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

// Waits until `value` is no longer `old`.
template <typename T>
void wait_change(std::atomic<T>& value, T old) {
    for (int i = 0; i < kSpins; ++i) {
        if (value.load(std::memory_order_acquire) != old) return;
        pause();
    }
    value.wait(old, std::memory_order_acquire);
}

}  // namespace

void Pool::start() {
    if (process_ == getpid()) return;
    abandon();
    process_ = getpid();
    for (int index = 1; index < threads_; ++index)
        workers_.emplace_back(&Pool::work, this, index, round_.load(std::memory_order_relaxed));
}

void Pool::run(const void* task, Call call) {
    start();
    task_ = task;
    call_ = call;
    pending_.store(threads_ - 1, std::memory_order_relaxed);
    round_.fetch_add(1, std::memory_order_release);
    round_.notify_all();
    call(task, Part{0, threads_});
    for (int left = pending_.load(std::memory_order_acquire); left; left = pending_.load(std::memory_order_acquire))
        wait_change(pending_, left);
}

void Pool::work(int index, uint32_t seen) {
    const FlushSubnormals mode;
    for (;;) {
        wait_change(round_, seen);
        ++seen;
        if (stopping_) return;
        call_(task_, Part{index, threads_});
        if (pending_.fetch_sub(1, std::memory_order_acq_rel) == 1) pending_.notify_all();
    }
}

// After a fork the handles name threads that do not exist here: they can be neither joined nor detached.
void Pool::abandon() {
    if (!workers_.empty()) new std::vector<std::thread>(std::move(workers_));
    workers_.clear();
}

void Pool::stop() {
    if (workers_.empty()) return;
    if (process_ != getpid()) return abandon();
    stopping_ = true;
    round_.fetch_add(1, std::memory_order_release);
    round_.notify_all();
    for (std::thread& worker : workers_) worker.join();
}

}  // namespace alexandra
