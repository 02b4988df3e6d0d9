// As many networks of a population as a vector has lanes, in training. A lane whose network is done takes the next
// that waits; with none left it repeats the rows of another lane and changes nothing.
#pragma once

#include "population.h"
#include "population_rates.h"

namespace alexandra {

class Crew {
public:
    explicit Crew(std::shared_ptr<Population> population);

    // One epoch of every network, and a look at its validation rows. False when no network is left.
    bool run_epoch();

private:
    // Where an input or target of every lane lies: by offsets from one place when they fit, else by pointer.
    struct Source {
        int features;
        const float* base;
        alignas(64) int32_t offsets[kStripes];
        const float* data[kStripes];
    };
    struct Lane {
        int64_t seat = -1, shown = -1;  // its network, or -1; whose rows it reads
        int64_t rows = 0, steps_per_epoch = 0;
        int64_t step = 0, age = 0;      // steps and epochs done
        Watch watch;
    };
    typedef std::vector<Rows> Seat::*Field;

    // crew.cpp: who sits where, and when they are done
    void fill_lanes();
    void begin(int lane, int64_t seat);
    void set_numbers(int lane, const Program& program);
    void show_lanes();
    Source source(Field field, size_t which) const;
    std::vector<Source> sources(Field field, size_t count) const;
    void end_epoch();
    Ending look(int lane, double loss, bool* better);
    void end(int lane, Ending ending);
    void store(const Memory& from, int lane, float* natural) const;
    void keep_best(const bool* better);

    // crew_step.cpp: what they do
    void shuffle();
    bool take_rows(int64_t number);
    void set_rows();
    void gather(const Source& source, const int32_t* order, float* to) const;
    void losses(bool learns);
    bool check(const double* losses);
    void clip();
    void update();
    bool step(int64_t number);
    void evaluate();

    const Seat& shown(int lane) const { return population_->seat(size_t(lanes_[size_t(lane)].shown)); }
    const Program& first_program() const { return population_->seat(0).program; }
    float& number(int which, int lane) { return numbers_.data()[which * plan_.lanes + lane]; }
    static int32_t* mask(Memory& memory) { return reinterpret_cast<int32_t*>(memory.data()); }
    static double* doubles(Memory& memory) { return reinterpret_cast<double*>(memory.data()); }

    std::shared_ptr<Population> population_;
    const LanePlan& plan_;
    std::vector<Lane> lanes_;
    std::vector<Rates> rates_;
    std::vector<Source> inputs_, targets_, validation_, validation_targets_;
    Memory arena_, weights_, best_, moments_[2];  // the last three [params][lanes]
    Memory order_, places_;                       // [rows][lanes] of int32: of the epoch, of a look
    Memory numbers_;                              // settings of the current step, [kNumbers][lanes]
    Memory used_, live_;                          // masks of the current rows [batch][lanes] and lanes
    Memory sums_, looks_;                         // doubles [lanes]
    std::vector<Memory> loss_scales_;             // per loss, [lanes]
    std::vector<double> step_losses_, counts_;    // of the epoch [steps][lanes]; rows of each lane now
    std::vector<int64_t> rows_now_;
    int64_t longest_ = 0;                         // steps of the epoch
    bool same_rows_ = false, fresh_ = true;       // all lanes have as many rows; masks must be set anew
    bool vacant_ = false, uneven_ = false, resting_ = false, settled_ = false;
    int rows_ = 0;
};

}  // namespace alexandra
