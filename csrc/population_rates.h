// The learning rate of one network at each step, in the numbers that the kernels take: what Trainer computes,
// with the powers of Adam's decays looked up where they can be.
#pragma once

#include <cstdint>
#include <vector>

#include "trainer.h"

namespace alexandra {

struct Rate {
    float rate, inverse_root, keep, l1;
    bool last;  // all later steps have the same
};

class Rates {
public:
    Rates() = default;
    explicit Rates(const Program& program);  // which must outlive it
    Rate at(int64_t step) const;

private:
    double rest(const std::vector<double>* table, double beta, int64_t step) const;

    const Program* program_ = nullptr;
    bool flat_ = true;  // the schedule's factor is always 1
    float keep_ = 1, l1_ = 0;
    const std::vector<double>*rest1_ = nullptr, *rest2_ = nullptr;
};

// The sum of `n` numbers that lie `stride` apart, in NumPy's pairwise order.
double pairwise_sum(const double* x, int64_t n, int64_t stride);

}  // namespace alexandra
