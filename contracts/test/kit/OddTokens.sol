// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

import {Ledger} from "../../src/Ledger.sol";

/// Keeps a tenth of every transfer.
contract FeeToken is ERC20("Fee", "FEE") {
    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    function _update(address from, address to, uint256 amount) internal override {
        super._update(from, to, amount);
        if (from != address(0) && to != address(0)) super._update(to, address(0), amount / 10);
    }
}

/// Says no instead of reverting.
contract FalseToken {
    function balanceOf(address) external pure returns (uint256) {
        return 0;
    }

    function transferFrom(address, address, uint256) external pure returns (bool) {
        return false;
    }
}

/// Calls the Ledger again from inside a transfer, as ERC-777's hooks allow.
contract ReenteringToken is ERC20("Re", "RE") {
    Ledger public ledger;
    bytes public call;

    function arm(Ledger ledger_, bytes calldata call_) external {
        (ledger, call) = (ledger_, call_);
    }

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    function transferFrom(address from, address to, uint256 amount) public override returns (bool) {
        if (call.length != 0) {
            (bool ok, bytes memory reason) = address(ledger).call(call);
            if (!ok) {
                assembly {
                    revert(add(reason, 32), mload(reason))
                }
            }
        }
        return super.transferFrom(from, to, amount);
    }
}

/// Refuses a receiver, keeps a tenth or says no, as its owner pleases at the time.
contract MoodyToken is ERC20("Moody", "MOOD") {
    address public refused;
    bool public keepsFee;
    bool public saysNo;

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    function refuse(address who) external {
        refused = who;
    }

    function setFee(bool keeps) external {
        keepsFee = keeps;
    }

    function setSaysNo(bool no) external {
        saysNo = no;
    }

    function transferFrom(address from, address to, uint256 amount) public override returns (bool) {
        return !saysNo && super.transferFrom(from, to, amount);
    }

    function _update(address from, address to, uint256 amount) internal override {
        require(to == address(0) || to != refused, "refused");
        super._update(from, to, amount);
        if (keepsFee && from != address(0) && to != address(0)) super._update(to, address(0), amount / 10);
    }
}
