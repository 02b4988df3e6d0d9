// A small pool of threads that split an index range; the caller is thread 0. It spins briefly, then sleeps.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <utility>
#include <vector>

namespace alexandra {

struct Part {
    int index, count;  // part `index` of `count`

    // The half-open range of this part of 0 .. n-1, in multiples of `grain`.
    std::pair<int, int> of(int n, int grain = 1) const {
        const int pieces = (n + grain - 1) / grain;
        const int first = int(int64_t(pieces) * index / count) * grain;
        const int last = int(int64_t(pieces) * (index + 1) / count) * grain;
        return {first < n ? first : n, last < n ? last : n};
    }
};

class Pool {
public:
    explicit Pool(int threads) : threads_(threads) {}
    ~Pool() { stop(); }
    Pool(const Pool&) = delete;
    Pool& operator=(const Pool&) = delete;

    int threads() const { return threads_; }
    // The threads begin when they are first needed, or here.
    void start();

    // Runs task(part) for every part and returns when all are done.
    template <typename Task>
    void split(const Task& task) {
        if (threads_ == 1)
            task(Part{0, 1});
        else
            run(&task, [](const void* t, Part part) { (*static_cast<const Task*>(t))(part); });
    }

private:
    typedef void (*Call)(const void*, Part);
    void run(const void* task, Call call);
    void stop();
    void abandon();
    void work(int index, uint32_t seen);

    const int threads_;
    long process_ = 0;  // workers do not survive a fork
    std::vector<std::thread> workers_;
    const void* task_ = nullptr;
    Call call_ = nullptr;
    std::atomic<uint32_t> round_{0};
    std::atomic<int> pending_{0};
    bool stopping_ = false;
};

}  // namespace alexandra
