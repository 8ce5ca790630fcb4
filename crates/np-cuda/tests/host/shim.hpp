// What kernels take for granted on a device, for a host: one rounding an operation, barriers, the numbers of blocks and threads.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <type_traits>
#include <ucontext.h>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __shared__ static
#define __launch_bounds__(...)

struct Place {
    unsigned int x;
};
static Place threadIdx, blockIdx, blockDim;

static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __fsqrt_rn(float a) { return std::sqrt(a); }
static inline double __dadd_rn(double a, double b) { return a + b; }
static inline double __dsub_rn(double a, double b) { return a - b; }
static inline double __dmul_rn(double a, double b) { return a * b; }
static inline double __ddiv_rn(double a, double b) { return a / b; }
static inline double __dsqrt_rn(double a) { return std::sqrt(a); }
static inline float __uint_as_float(unsigned int x) { return std::bit_cast<float>(x); }
static inline unsigned int __float_as_uint(float x) { return std::bit_cast<unsigned int>(x); }

// Threads of a block take turns on the one thread that launches them: each runs until it waits for others.
struct Thread {
    ucontext_t at;
    std::vector<char> stack;
    bool ended;
};
static std::vector<Thread> turns;
static ucontext_t between;
static std::function<void(unsigned int)> body;

static void begin() {
    body(threadIdx.x);
    turns[threadIdx.x].ended = true;
    swapcontext(&turns[threadIdx.x].at, &between);
}

struct Barrier {
    unsigned int members, arrived, turn;

    void arrive_and_wait() {
        const unsigned int now = turn;
        arrived += 1;
        if (arrived == members) {
            arrived = 0;
            turn += 1;
        }
        while (turn == now) {
            swapcontext(&turns[threadIdx.x].at, &between);
        }
    }
};
static Barrier whole;
static std::vector<Barrier> warps;
static std::vector<unsigned long long> exchanged;

static inline void __syncthreads() { whole.arrive_and_wait(); }
static inline void __syncwarp() { warps[threadIdx.x / 32].arrive_and_wait(); }

template <class T>
static T __shfl_down_sync(unsigned int, T x, unsigned int delta) {
    static_assert(sizeof(T) <= 8);
    std::memcpy(&exchanged[threadIdx.x], &x, sizeof(T));
    __syncwarp();
    T y = x;
    if (threadIdx.x % 32 + delta < 32) {
        std::memcpy(&y, &exchanged[threadIdx.x + delta], sizeof(T));
    }
    __syncwarp();
    return y;
}

template <class T>
static T __shfl_sync(unsigned int, T x, unsigned int from) {
    static_assert(sizeof(T) <= 8);
    std::memcpy(&exchanged[threadIdx.x], &x, sizeof(T));
    __syncwarp();
    T y;
    std::memcpy(&y, &exchanged[threadIdx.x / 32 * 32 + from], sizeof(T));
    __syncwarp();
    return y;
}

template <class T>
static T word_as(unsigned long long word) {
    static_assert(sizeof(T) == 8);
    return std::bit_cast<T>(word);
}

template <class... A, std::size_t... I>
static void call(void (*kernel)(A...), const unsigned long long *words, std::index_sequence<I...>) {
    kernel(word_as<A>(words[I])...);
}

// Whether a word can be the parameter that it is for: an address of what lies where its type may.
template <class T>
static bool fits(unsigned long long word) {
    if constexpr (std::is_pointer_v<T>) {
        return word != 0 && word % alignof(std::remove_pointer_t<T>) == 0;
    }
    return true;
}

// Which of `count` words does not fit the kernel's parameter, from 0; -1 where all do, -2 where they are not as many as the parameters.
template <class... A>
static int misfit(void (*)(A...), const unsigned long long *words, unsigned int count) {
    if (count != sizeof...(A)) {
        return -2;
    }
    int place = 0, found = -1;
    ((found = found < 0 && !fits<A>(words[place]) ? place : found, place += 1), ...);
    return found;
}

template <class... A>
static void run_grid(void (*kernel)(A...), unsigned int blocks, unsigned int threads, const unsigned long long *words,
                     bool together) {
    const auto one = [&](unsigned int thread) {
        threadIdx.x = thread;
        call(kernel, words, std::index_sequence_for<A...>());
    };
    blockDim.x = threads;
    for (unsigned int block = 0; block < blocks; block += 1) {
        blockIdx.x = block;
        if (!together) {
            for (unsigned int thread = 0; thread < threads; thread += 1) {
                one(thread);
            }
            continue;
        }
        whole = Barrier{threads, 0, 0};
        warps.clear();
        for (unsigned int warp = 0; warp * 32 < threads; warp += 1) {
            warps.push_back(Barrier{std::min(32u, threads - warp * 32), 0, 0});
        }
        exchanged.assign(threads, 0);
        body = one;
        turns.resize(threads);
        for (Thread &thread : turns) {
            thread.ended = false;
            thread.stack.resize(64 * 1024);
            getcontext(&thread.at);
            thread.at.uc_stack.ss_sp = thread.stack.data();
            thread.at.uc_stack.ss_size = thread.stack.size();
            thread.at.uc_link = nullptr;
            makecontext(&thread.at, begin, 0);
        }
        for (bool left = true; left;) {
            left = false;
            for (unsigned int thread = 0; thread < threads; thread += 1) {
                if (!turns[thread].ended) {
                    left = true;
                    threadIdx.x = thread;
                    swapcontext(&between, &turns[thread].at);
                }
            }
        }
    }
}
