// The numbers of a crew's current step, per lane; the first ten are the members of a LaneStep.
#pragma once

namespace alexandra {

enum Number { kBeta1, kRest1, kBeta2, kRest2, kRate, kInverseRoot, kEps, kKeep, kL2, kScale, kL1, kOne, kZero, kNumbers };

}  // namespace alexandra
