// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {TestUSD} from "../../src/dev/TestUSD.sol";

/// A dollar that does, as it pleases at the time, what tokens have been seen to do.
contract HostileUSD is TestUSD {
    bool public keepsFee; // a tenth of every transfer
    bool public saysNo; // instead of moving anything
    address public refused; // as a receiver and as a sender
    address public reenters; // is called with `reentry` from inside transfers
    bytes public reentry;

    function setMood(bool keepsFee_, bool saysNo_, address refused_, address reenters_, bytes calldata reentry_)
        external
    {
        (keepsFee, saysNo, refused, reenters, reentry) = (keepsFee_, saysNo_, refused_, reenters_, reentry_);
    }

    function transfer(address to, uint256 amount) public override returns (bool) {
        return !saysNo && super.transfer(to, amount);
    }

    function transferFrom(address from, address to, uint256 amount) public override returns (bool) {
        return !saysNo && super.transferFrom(from, to, amount);
    }

    function _update(address from, address to, uint256 amount) internal override {
        if (from == address(0) || to == address(0)) return super._update(from, to, amount);
        require(refused == address(0) || (from != refused && to != refused), "refused");
        super._update(from, to, amount);
        if (keepsFee) super._update(to, address(0), amount / 10);
        (address target, bytes memory data) = (reenters, reentry);
        if (target == address(0)) return;
        reenters = address(0);
        (bool ok,) = target.call(data);
        ok; // what a hook tries inside may fail
        reenters = target;
    }
}
